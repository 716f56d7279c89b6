"""The table of regions: tokens, bounds, what tensors and gradients may lie where. Pure."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossd.v1 import loss_pb2 as loss
from lossd.v1 import service_pb2 as service
from lossd.v1 import tensor_pb2 as pb
from lossd_server.engine.evaluate import evaluate
from lossd_server.errors import InvalidRequest, NotFound, ServerError, TooLarge
from lossd_server.jobs.gradient_placement import void
from lossd_server.jobs.job import Answer
from lossd_server.shared_memory.mapped_region import MappedRegion, NotTaken, mapped, unmap
from lossd_server.shared_memory.region_shares import RegionShares
from lossd_server.shared_memory.registry import RegionRegistry, bounds
from lossd_server.tensors.request_fields import Fields, fields_of
from lossd_server.wire import codec
from tests.losses.jobs import Recording
from tests.losses.messages import tensor, zeros
from tests.server.shared_memory.memfds import PAGE, memfd

OWNER = object()


def region(size: int = PAGE) -> MappedRegion:
    file = memfd(size)
    try:
        return mapped(file, size)
    finally:
        os.close(file)


@pytest.fixture
def regions() -> Iterator[RegionRegistry]:
    table = RegionRegistry(1 << 20, 4096)
    yield table
    unmap(table.leave(OWNER))


def there(
    token: bytes, offset: int, shape: tuple[int, ...], dtype: int = pb.DATA_TYPE_FLOAT32, length: int = -1
) -> Any:
    """A tensor in shared memory."""
    size = len(zeros(*shape, dtype=dtype).data)
    place = pb.SharedMemory(token=token, offset=offset, length=size if length < 0 else length)
    return pb.Tensor(dtype=dtype, shape=shape, shared_memory=place)  # type: ignore[arg-type]  # enums are ints to us


def placement(token: bytes, offset: int, length: int, gradient: int = loss.GRADIENT_INPUT) -> Any:
    place = pb.SharedMemory(token=token, offset=offset, length=length)
    return loss.Placement(gradient=gradient, shared_memory=place)  # type: ignore[arg-type]  # wrong on purpose at times


def cross_entropy(input: Any, target: Any = None, **options: Any) -> Fields:
    target = zeros(4, dtype=pb.DATA_TYPE_INT64) if target is None else target
    return fields_of(service.CrossEntropyRequest(input=input, target=target, **options))


def refused(
    kind: type[ServerError], regions: RegionRegistry, request: Fields, rpc: str = "CrossEntropy"
) -> ServerError:
    with pytest.raises(kind) as caught:
        regions.job(rpc, request)
    return caught.value


UINT64 = st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 5000), st.integers(2**64 - 5000, 2**64 - 1))


@given(UINT64, UINT64, st.integers(1, 5000))
def test_bounds(offset: int, length: int, size: int) -> None:
    """A range is within a region if its last byte is, whatever a sum of 64 bits would come to."""
    assert bounds(offset, length, size) == (offset + length <= size)


def test_a_tensor_is_a_view(regions: RegionRegistry) -> None:
    """Floats are used where they lie, and cannot be written to; integers are copied."""
    memory = region()
    token = regions.add(OWNER, memory)
    memory.memory[0:8] = np.array([1.5, 2.5], "<f4").tobytes()
    memory.memory[64:72] = np.array([3], "<i8").tobytes()
    seen = regions.resolve(
        cross_entropy(there(token, 0, (1, 2)), there(token, 64, (1,), pb.DATA_TYPE_INT64), ignore_index=7)
    )
    memory.memory[0:4] = np.array([9.0], "<f4").tobytes()
    memory.memory[64:72] = np.array([9], "<i8").tobytes()

    assert np.frombuffer(seen["input"].data, "<f4").tolist() == [9.0, 2.5]
    assert seen["input"].data.readonly
    assert np.frombuffer(seen["target"].data, "<i8").tolist() == [3]
    assert seen["ignore_index"] == 7


@pytest.mark.parametrize(
    "offset, length, reason",
    [
        (0, 15, "LENGTH_MISMATCH"),
        (0, 2**64 - 1, "LENGTH_MISMATCH"),
        (PAGE, 16, "OUT_OF_BOUNDS"),
        (PAGE - 12, 16, "OUT_OF_BOUNDS"),
        (2**64 - 16, 16, "OUT_OF_BOUNDS"),
        (2**64 - 8, 16, "OUT_OF_BOUNDS"),
        (2, 16, "MISALIGNED"),
    ],
)
def test_ranges_that_are_refused(regions: RegionRegistry, offset: int, length: int, reason: str) -> None:
    """A tensor's range has its bytes, lies within the region and begins at a multiple of its elements' size."""
    token = regions.add(OWNER, region())
    error = refused(InvalidRequest, regions, cross_entropy(there(token, offset, (2, 2), length=length)))

    assert (error.reason, error.field) == (reason, "input")


def test_tokens_that_are_not_known(regions: RegionRegistry) -> None:
    """A guessed, an ended, another table's and a malformed token are refused in the same words."""
    ended = regions.add(OWNER, region())
    (gone,) = regions.remove(OWNER, ended)
    other = RegionRegistry(1 << 20, 4096)
    foreign = other.add(OWNER, region())
    said = {
        str(refused(NotFound, regions, cross_entropy(there(token, 0, (2, 2)))))
        for token in (bytes(16), ended, foreign, b"", b"x" * 1000)
    }

    assert len(said) == 1
    unmap([gone, *other.leave(OWNER)])


def test_an_owner_ends_its_own(regions: RegionRegistry) -> None:
    """A region ends with its owner's word or leave, and with nobody else's."""
    token = regions.add(OWNER, region())

    assert regions.remove(object(), token) == []
    assert regions.leave(object()) == []
    assert len(regions) == 1
    unmap(regions.leave(OWNER))
    assert len(regions) == 0


def test_bytes_come_back_with_the_last_view(regions: RegionRegistry) -> None:
    """An ended region's bytes are taken until nobody reads it any more."""
    token = regions.add(OWNER, region(2 * PAGE))
    seen = regions.resolve(cross_entropy(there(token, 0, (4, 2))))
    unmap(regions.leave(OWNER))
    gc.collect()
    still = regions.taken_bytes
    assert bytes(seen["input"].data[:4]) == bytes(4)
    del seen
    gc.collect()

    assert (still, regions.taken_bytes) == (2 * PAGE, 0)


def test_caps() -> None:
    """What exceeds the budget, or the number of regions, is not taken."""
    table = RegionRegistry(2 * PAGE, 4096)
    with pytest.raises(NotTaken) as large:
        table.admit(OWNER, 3 * PAGE)
    table.add(OWNER, region())
    table.admit(OWNER, PAGE)
    with pytest.raises(NotTaken) as full:
        table.admit(OWNER, 2 * PAGE)
    many = RegionRegistry(1 << 30, 4096, shares=RegionShares(1))
    many.admit(OWNER, PAGE)
    many.add(OWNER, region())
    with pytest.raises(NotTaken) as crowded:
        many.admit(OWNER, PAGE)

    assert [one.value.reason for one in (large, full, crowded)] == [
        "REGION_TOO_LARGE",
        "SHARED_MEMORY_FULL",
        "SHARED_MEMORY_FULL",
    ]
    unmap([*table.leave(OWNER), *many.leave(OWNER)])


@pytest.mark.parametrize(
    "request_fields",
    [
        lambda token: cross_entropy(there(token, 0, (4, 2)), there(token, 0, (700,), pb.DATA_TYPE_INT64)),
        lambda token: cross_entropy(
            there(token, 0, (4, 2100), pb.DATA_TYPE_FLOAT8_E5M2), weight=there(token, 0, (2100,), pb.DATA_TYPE_FLOAT16)
        ),
        lambda token: cross_entropy(there(token, 0, (1, 2, 600)), zeros(1, 600, dtype=pb.DATA_TYPE_INT64)),
    ],
    ids=["integers", "weights of 16 bits", "losses of one item's rows"],
)
def test_copies_are_bounded(request_fields: Any) -> None:
    """What shared memory would cost in memory of the server itself is bounded as a message is."""
    table = RegionRegistry(1 << 20, 4096)
    token = table.add(OWNER, region(4 * PAGE))
    error = refused(TooLarge, table, request_fields(token))

    assert error.reason == "COPIES_TOO_LARGE"
    unmap(table.leave(OWNER))


def test_a_gradient_is_placed(regions: RegionRegistry) -> None:
    """A placement is where the gradient's array lies, of its dtype; the answer says where."""
    memory = region()
    token = regions.add(OWNER, memory)
    request = cross_entropy(
        there(token, 0, (4, 2)), gradients=[loss.GRADIENT_INPUT], placements=[placement(token, 64, 32)]
    )
    job = regions.job("CrossEntropy", request)
    job.placed["input"][:] = 1.0

    assert bytes(memory.memory[64:96]) == np.ones(8, "<f4").tobytes()
    assert bytes(memory.memory[60:64]) == bytes(memory.memory[96:100]) == bytes(4)
    assert (job.places["input"].offset, job.places["input"].token) == (64, token)
    assert job.copied_bytes == 0


@pytest.mark.parametrize(
    "placements, reason",
    [
        ([(0, 32, 1)], "OVERLAP"),
        ([(28, 32, 1)], "OVERLAP"),
        ([(64, 32, 1), (128, 32, 1)], "PLACED_TWICE"),
        ([(64, 28, 1)], "LENGTH_MISMATCH"),
        ([(2**64 - 32, 32, 1)], "OUT_OF_BOUNDS"),
        ([(66, 32, 1)], "MISALIGNED"),
        ([(64, 32, 2)], "NOT_ASKED_FOR"),
        ([(64, 8, 3)], "NOT_ASKED_FOR"),
        ([(64, 32, 0)], "UNKNOWN_ENUM"),
        ([(64, 32, 77)], "UNKNOWN_ENUM"),
        ([(64, 32, 1)] * 9, "OPTION_OUT_OF_RANGE"),
    ],
)
def test_placements_that_are_refused(regions: RegionRegistry, placements: Any, reason: str) -> None:
    """A gradient has a place of its own, once, of its size, and only if it is asked for."""
    token = regions.add(OWNER, region())
    request = cross_entropy(
        there(token, 0, (4, 2)),
        gradients=[loss.GRADIENT_INPUT],
        placements=[placement(token, *one) for one in placements],
    )
    error = refused(InvalidRequest, regions, request)

    assert error.reason == reason
    assert error.field.startswith("placements")


def test_two_placements_overlap(regions: RegionRegistry) -> None:
    """Two gradients do not share memory, not even through two tokens of one file."""
    file = memfd()
    one, two = regions.add(OWNER, mapped(file, PAGE)), regions.add(OWNER, mapped(file, PAGE))
    os.close(file)
    request = fields_of(
        service.KLDivergenceRequest(
            input=tensor([0.0, 0.0]),
            target=tensor([0.5, 0.5]),
            gradients=[loss.GRADIENT_INPUT, loss.GRADIENT_TARGET],
            placements=[placement(one, 0, 8), placement(two, 4, 8, loss.GRADIENT_TARGET)],
        )
    )

    assert refused(InvalidRequest, regions, request, "KLDivergence").reason == "OVERLAP"


def test_a_placement_with_an_unknown_token(regions: RegionRegistry) -> None:
    """A place in a region that is not known is NOT_FOUND, as a tensor's is."""
    request = cross_entropy(zeros(4, 2), gradients=[loss.GRADIENT_INPUT], placements=[placement(bytes(16), 0, 32)])

    assert refused(NotFound, regions, request).reason == "UNKNOWN_REGION"


@pytest.mark.parametrize("gradient", [loss.GRADIENT_INPUT, loss.GRADIENT_TARGET, loss.GRADIENT_WEIGHT])
def test_an_answer_with_a_placed_gradient(regions: RegionRegistry, gradient: Any) -> None:
    """The answer's size is known before it is computed; a backend that writes elsewhere has its gradient brought."""
    memory = region()
    token = regions.add(OWNER, memory)
    sent: dict[str, Any] = {
        "input": tensor([[0.5, 1.5], [2.0, 0.0]]),
        "target": tensor([[0.25, 0.75], [1.0, 0.0]]),
        "weight": tensor([1.0, 3.0]),
        "gradients": [gradient],
    }
    length = 8 if gradient == loss.GRADIENT_WEIGHT else 16
    there = regions.job("CrossEntropy", cross_entropy(**sent, placements=[placement(token, 64, length, gradient)]))
    here = regions.job("CrossEntropy", cross_entropy(**sent))
    placed, plain = evaluate(Recording(), [there, here])
    assert isinstance(placed, Answer)
    assert isinstance(plain, Answer)
    size = len(codec.encode(placed, 1, 1, 1, 1))
    expected = plain.input_gradient, plain.target_gradient, plain.weight_gradient

    assert size <= codec.response_bytes(there) <= size + 77
    assert bytes(memory.memory[64 : 64 + length]) == next(one for one in expected if one is not None).tobytes()
    void(there)
    assert np.isnan(np.frombuffer(memory.memory[64 : 64 + length], "<f4")).all()
