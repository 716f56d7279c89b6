"""Operands that no kernel takes become numbers: at once where they are few, else when they are computed."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lossd.v1 import loss_pb2 as loss
from lossd.v1 import service_pb2 as service
from lossd.v1 import tensor_pb2 as pb
from lossd_server.engine.evaluate import carry_of_parts, evaluate
from lossd_server.errors import InvalidRequest
from lossd_server.jobs.conversion_cost import COPIES_BYTES
from lossd_server.jobs.job import Job
from lossd_server.jobs.slicing import slice_job
from lossd_server.losses.conversion import convert
from lossd_server.tensors.array import FLOATS, STORAGE
from tests.losses.checked import check
from tests.losses.jobs import Recording, answer, refusal
from tests.losses.messages import tensor
from tests.losses.requests import rpc

ROWS, CLASSES = 200, 700  # of bools: above what is done at once
RNG = np.random.default_rng(5)
LOGIT = loss.KIND_LOGITS
LOGITS = tensor(RNG.normal(size=(ROWS, CLASSES)))
ONES = RNG.integers(0, 2, (ROWS, CLASSES))
COUNTS = RNG.integers(1, 9, (ROWS, CLASSES))
SHARES = COUNTS / COUNTS.sum(1, keepdims=True)

# A request, and one that says the same in numbers that kernels take.
SAME: dict[str, tuple[Any, Any]] = {
    "bool target": (
        service.BCEWithLogitsRequest(input=LOGITS, target=tensor(ONES, "bool"), gradients=[1]),  # type: ignore[list-item]
        service.BCEWithLogitsRequest(input=LOGITS, target=tensor(ONES), gradients=[1]),  # type: ignore[list-item]
    ),
    "integer target": (
        service.BCERequest(input=tensor(ONES / 2), target=tensor(ONES, "int64")),
        service.BCERequest(input=tensor(ONES / 2), target=tensor(ONES)),
    ),
    "target counts": (
        service.CrossEntropyRequest(input=LOGITS, target=tensor(COUNTS, "int16"), target_kind=loss.KIND_COUNTS),
        service.CrossEntropyRequest(input=LOGITS, target=tensor(SHARES)),
    ),
    "target counts of rows": (
        service.KLDivergenceRequest(input=LOGITS, kind=LOGIT, target=tensor(COUNTS), target_kind=loss.KIND_COUNTS),
        service.KLDivergenceRequest(input=LOGITS, kind=LOGIT, target=tensor(SHARES)),
    ),
    "counts": (
        service.EntropyRequest(input=tensor(COUNTS, "uint8"), kind=loss.KIND_COUNTS),
        service.EntropyRequest(input=tensor(COUNTS), kind=loss.KIND_COUNTS),
    ),
}


@pytest.mark.parametrize("kind", SAME)
def test_a_large_request_waits_for_its_turn(kind: str) -> None:
    """It is checked without a look at its values, and its answer is that of the numbers it stands for."""
    request, same = SAME[kind]
    job, other = check(rpc(request), request), check(rpc(same), same)

    assert job.raw
    assert not other.raw
    one, two = answer(job), answer(other)
    assert one.loss.tobytes() == two.loss.tobytes()
    assert one.summary == two.summary
    assert (one.input_gradient is None) == (two.input_gradient is None)
    if one.input_gradient is not None and two.input_gradient is not None:
        assert one.input_gradient.tobytes() == two.input_gradient.tobytes()


@pytest.mark.parametrize("kind", SAME)
def test_a_small_request_is_made_ready_at_once(kind: str) -> None:
    """Its job has nothing but what kernels take."""
    request = type(SAME[kind][0])()
    request.CopyFrom(SAME[kind][0])
    for name in ("input", "target"):
        if name in request.DESCRIPTOR.fields_by_name and request.HasField(name):
            whole = getattr(request, name)
            whole.data = whole.data[: 5 * CLASSES * STORAGE[whole.dtype].itemsize]
            whole.shape[0] = 5
    job = check(rpc(request), request)

    assert not job.raw
    assert job.input.dtype in FLOATS
    assert job.target is None or job.target.dtype in FLOATS


def bools_with_a_two() -> Job:
    values = ONES.astype(np.uint8)
    values[150, 3] = 2
    target = pb.Tensor(dtype=pb.DATA_TYPE_BOOL, shape=values.shape, data=values.tobytes())
    return check("BCEWithLogits", service.BCEWithLogitsRequest(input=LOGITS, target=target))


def counts_with(value: int) -> Job:
    values = COUNTS.astype(np.int32)
    values[150] = value
    return check(
        "CrossEntropy",
        service.CrossEntropyRequest(input=LOGITS, target=tensor(values, "int32"), target_kind=loss.KIND_COUNTS),
    )


REFUSED = {
    "bools": (bools_with_a_two(), "target[150, 3] = 2 is not a bool"),
    "a negative count": (counts_with(-1), "target[150, 0] = -1 is outside [0, inf)"),
    "no counts": (counts_with(0), "the counts of target's row[150] sum to 0"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_values_that_are_wrong_cost_their_own_job_alone(kind: str) -> None:
    """The others of the batch are answered."""
    job, sentence = REFUSED[kind]
    good = check(rpc(SAME["counts"][0]), SAME["counts"][0])

    assert sentence in refusal(job).message
    answers = evaluate(Recording(), [good, job, good])
    assert isinstance(answers[1], InvalidRequest)
    assert not isinstance(answers[0], InvalidRequest)
    assert not isinstance(answers[2], InvalidRequest)


def test_a_part_of_a_large_request_is_made_ready_alone() -> None:
    """What comes before the part that holds the wrong value is computed."""
    job = replace(REFUSED["bools"][0])
    carry = carry_of_parts(job)
    (first,) = evaluate(Recording(), [slice_job(job, 0, 100)], [carry])  # type: ignore[list-item]
    (second,) = evaluate(Recording(), [slice_job(job, 100, 100)], [first.carry])  # type: ignore[union-attr]

    assert isinstance(second, InvalidRequest)
    assert "target[50, 3] = 2 is not a bool" in second.message


def bools(*shape: int) -> Job:
    """Targets that are converted, of logits that are not."""
    data = np.ones(shape, np.uint8).tobytes()
    logits = pb.Tensor(dtype=pb.DATA_TYPE_FLOAT8_E5M2, shape=shape, data=data)
    target = pb.Tensor(dtype=pb.DATA_TYPE_BOOL, shape=shape, data=data)
    return check("BCEWithLogits", service.BCEWithLogitsRequest(input=logits, target=target))


def test_copies_are_charged() -> None:
    """A job is charged with what its conversion holds at once: a part's copies, or all where it has no parts."""
    small, large, row = bools(ROWS, CLASSES), bools(4 * COPIES_BYTES // 1000, 1000), bools(1, 4 * COPIES_BYTES)

    assert small.copied_bytes == small.converted_bytes == 4 * ROWS * CLASSES
    assert large.copied_bytes == COPIES_BYTES < large.converted_bytes
    assert row.copied_bytes == row.converted_bytes == 16 * COPIES_BYTES


def test_losses_of_rows_that_are_not_cut_are_charged() -> None:
    """One item of many rows has all their losses at once; of many items, those of a part."""
    one, many = np.ones((1, 2, 50_000)), np.ones((50_000, 2))

    assert check("Entropy", service.EntropyRequest(input=tensor(one))).copied_bytes == 8 * 50_000
    assert check("Entropy", service.EntropyRequest(input=tensor(many))).copied_bytes == 0


@pytest.mark.parametrize("kind", SAME)
def test_conversion_holds_what_it_is_charged_with(kind: str) -> None:
    """The copies that are made, and those in between, are what was estimated."""
    job = check(rpc(SAME[kind][0]), SAME[kind][0])
    tracemalloc.start()
    try:
        convert(job)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert job.converted_bytes <= job.copied_bytes
    assert peak <= 1.1 * job.copied_bytes + (1 << 18)
