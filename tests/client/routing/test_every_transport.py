"""One call for every size: streams and shared memory against one message, with a server in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

import lossd
from lossd.request.build import METHODS, build
from lossd.routing import block_plan
from lossd.routing.route import Route
from lossd.rpc.retry import Retry
from lossd.streaming.evaluation import Evaluation

RNG = np.random.default_rng(4)
N, C = 1200, 64
X = RNG.normal(size=(N, C)).astype(np.float32)
P = RNG.dirichlet(np.ones(C), N)
Y = RNG.integers(0, C, N)
U = RNG.random((N, C)).astype(np.float32)


@pytest.fixture(scope="module")
def client() -> Iterator[lossd.Client]:
    with lossd.Client("embedded") as client:
        yield client


@pytest.fixture(params=[1 << 10, 40_000, 2 << 20])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Of this many bytes; and nothing that can be cut goes whole."""
    monkeypatch.setattr(block_plan, "BLOCK_BYTES", request.param)
    monkeypatch.setattr(block_plan, "WHOLE_BYTES", 0)
    return int(request.param)


def same(one: lossd.Result, other: lossd.Result) -> None:
    """The same bits in everything that was asked for."""
    assert repr(one.summary) == repr(other.summary)
    assert one.grads.keys() == other.grads.keys()
    assert one.outputs.keys() == other.outputs.keys()
    pairs: list[tuple[Any, Any]] = [(one.loss, other.loss)]
    pairs += [(one.grads[name], other.grads[name]) for name in one.grads]
    pairs += [(one.outputs[name], other.outputs[name]) for name in one.outputs]
    for left, right in pairs:
        assert (type(left), left.dtype, left.shape) == (type(right), right.dtype, right.shape)
        assert _bits(left) == _bits(right)


def _bits(array: Any) -> bytes:
    flat = array.view(torch.uint8).numpy() if isinstance(array, torch.Tensor) else array
    return bytes(flat.tobytes())


CALLS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "loss alone": ("cross_entropy", (X, Y), {}),
    "rows and by-products": ("cross_entropy", (X, Y), {"reduction": "none", "outputs": ["lse", "argmax", "correct"]}),
    "gradient of a sum": ("cross_entropy", (X, Y), {"reduction": "sum", "grad": True}),
    "gradient of a mean": ("cross_entropy", (X, Y), {"grad": True, "label_smoothing": 0.1, "ignore_index": 5}),
    "weighted": (
        "cross_entropy",
        (X, Y),
        {"grad": True, "weight": RNG.random(C), "row_weight": RNG.random(N), "base": 2},
    ),
    "upstream": ("cross_entropy", (X, Y), {"grad": True, "grad_output": np.float32(-0.3)}),
    "upstream of rows": (
        "cross_entropy",
        (X, Y),
        {"grad": True, "reduction": "none", "grad_output": RNG.random(N).astype(np.float32)},
    ),
    "distributions": ("cross_entropy", (X, P), {"grad": ("input", "target", "weight"), "weight": RNG.random(C)}),
    "weighted distributions": ("cross_entropy", (X, P), {"grad": True, "row_weight": RNG.random(N)}),
    "images": ("cross_entropy", (X.reshape(N // 4, 4, C), np.tile(Y % 4, C // 4).reshape(-1, C)), {"grad": True}),
    "halves": ("cross_entropy", (X.astype(np.float16), Y.astype(np.int16)), {"grad": True}),
    "bfloat16": ("cross_entropy", (X.astype(ml_dtypes.bfloat16), Y), {"grad": True, "reduction": "none"}),
    "float8": ("bce_with_logits", (X.astype(ml_dtypes.float8_e4m3fn), U), {"grad": True}),
    "torch": ("cross_entropy", (torch.tensor(X).to(torch.bfloat16), torch.tensor(Y)), {"grad": True}),
    "strided": ("cross_entropy", (np.asfortranarray(X)[::-1], Y[::-1]), {"grad": True}),
    "bce": ("bce", (U, U[::-1]), {"grad": ("input", "target"), "weight": U}),
    "broadcast weights": ("bce", (U, U[::-1]), {"grad": True, "weight": U[:1]}),
    "bce of elements": ("bce_with_logits", (X.ravel(), U.ravel()), {"reduction": "none", "pos_weight": U.ravel()}),
    "divergence": ("kl_divergence", (np.log(P), P), {"grad": ("input", "target"), "reduction": "batchmean"}),
    "divergence of rows": ("kl_divergence", (X, P), {"kind": "logits", "reduction": "none", "grad": True}),
    "nll": ("nll", (X, Y), {"grad": True, "weight": RNG.random(C)}),
    "entropy": ("entropy", (P,), {"row_weight": RNG.random(N), "grad": True}),
    "self-information": ("self_information", (U + 0.01,), {"grad": True}),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_stream_has_the_bits_of_one_message(name: str, client: lossd.Client, blocks: int) -> None:
    """However it is cut, with every tensor in blocks that can be."""
    method, operands, options = CALLS[name]

    whole = getattr(client, method)(*operands, transport="unary", **options)

    same(getattr(client, method)(*operands, transport="stream", **options), whole)


@pytest.mark.parametrize("name", CALLS)
def test_shared_memory_has_the_bits_of_one_message(name: str, client: lossd.Client) -> None:
    """Of arrays that are copied there."""
    method, operands, options = CALLS[name]

    whole = getattr(client, method)(*operands, transport="unary", **options)

    same(getattr(client, method)(*operands, transport="shared_memory", **options), whole)


DENOMINATORS: dict[str, dict[str, Any]] = {
    "nothing kept": {"target": np.full(N, -100)},
    "nothing kept, zero": {"target": np.full(N, -100), "empty_mean": "zero"},
    "weights of zero": {"weight": np.zeros(C)},
    "weights of zero, upstream": {"weight": np.zeros(C), "grad_output": np.float32(2)},
    "negative": {"weight": -np.ones(C, np.float32)},
    "negative, upstream": {"weight": -np.ones(C), "grad_output": np.float64(0.3)},
    "infinite": {"weight": np.full(C, np.inf, np.float32)},
    "NaN": {"weight": np.full(C, np.nan, np.float32)},
}


@pytest.mark.parametrize("name", DENOMINATORS)
def test_denominators_that_are_no_normalizer(name: str, client: lossd.Client, blocks: int) -> None:
    """0, negative, not finite: loss and gradient of a stream are still those of one message."""
    options = dict(DENOMINATORS[name])
    target = options.pop("target", Y)

    whole = client.cross_entropy(X, target, grad=True, transport="unary", **options)

    same(client.cross_entropy(X, target, grad=True, transport="stream", **options), whole)


@pytest.mark.parametrize("way", ["unary", "stream", "shared_memory"])
@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].rpc == "Activation"])
def test_activations_go_every_way(method: str, way: Any, client: lossd.Client, blocks: int) -> None:
    """And their values are the kind of array that the input was."""
    half = torch.tensor(X).to(torch.bfloat16)

    value = getattr(client, method)(half, transport=way)

    assert torch.equal(value.view(torch.int16), getattr(client, method)(half).view(torch.int16))


def test_a_mapped_file_is_streamed(client: lossd.Client, tmp_path: Path) -> None:
    """Without being asked to; the answer is that of the array."""
    np.save(tmp_path / "x.npy", np.tile(X, (8, 1)))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    seen: list[tuple[int, int]] = []

    result = client.cross_entropy(mapped, np.tile(Y, 8), grad=True, progress=lambda *done: seen.append(done))

    same(result, client.cross_entropy(np.asarray(mapped).copy(), np.tile(Y, 8), grad=True, transport="unary"))
    assert seen[-1] == (8 * N, 8 * N)
    assert len(seen) > 1


def test_gradients_of_a_stream_are_written_into_out(client: lossd.Client, blocks: int) -> None:
    """Block by block."""
    out = np.empty_like(X)

    result = client.cross_entropy(X, Y, grad=True, out=out, transport="stream")

    assert result.grad is out
    assert out.tobytes() == client.cross_entropy(X, Y, grad=True).grad.tobytes()


def test_progress_of_a_whole_call_is_its_end(client: lossd.Client) -> None:
    """Items done, and all items."""
    seen: list[tuple[int, int]] = []

    client.cross_entropy(X, Y, progress=lambda *done: seen.append(done))
    client.entropy([0.5, 0.5], progress=lambda *done: seen.append(done))

    assert seen == [(N, N), (2, 2)]


def test_a_wrong_class_is_named_by_its_index_in_the_whole(client: lossd.Client, blocks: int) -> None:
    """Not in its block."""
    wrong = Y.copy()
    wrong[1000] = C

    for grad in (False, True):
        with pytest.raises(lossd.InvalidArgument, match=r"target\[1000\].*64") as caught:
            client.cross_entropy(X, wrong, grad=grad, transport="stream")
        assert caught.value.field == "target"


def test_a_shape_that_does_not_fit_is_refused_as_in_one_message(client: lossd.Client, blocks: int) -> None:
    """Before a block is computed."""
    with pytest.raises(lossd.InvalidArgument, match="target") as caught:
        client.cross_entropy(X, Y[:-1], transport="stream")

    assert caught.value.field == "target"


def test_what_is_asked_for_and_cannot_be_is_named(client: lossd.Client) -> None:
    """InvalidArgument with the reason."""
    with pytest.raises(lossd.InvalidArgument, match="one row") as caught:
        client.entropy(P[0], transport="stream")

    assert caught.value.field == "transport"


class Unreadable(np.ndarray[Any, Any]):
    """A file on a disk that went away."""

    def __getitem__(self, index: Any) -> Any:
        raise OSError("the disk is gone")


def test_an_array_that_cannot_be_read_is_the_callers_to_hear(client: lossd.Client, capfd: Any) -> None:
    """Its exception passes through, and nothing is logged."""

    call = build("entropy", P)
    call.operands["input"] = call.operands["input"]._replace(values=P.view(Unreadable))

    with pytest.raises(OSError, match="the disk is gone"):
        client._connection().evaluate(Evaluation(Route(call), 0.0), "stream", Retry(60.0), 60.0)

    assert capfd.readouterr().err == ""


def test_the_awaitable_client_streams_too(blocks: int) -> None:
    """With the same bits, many at once."""

    async def main() -> None:
        async with lossd.aio.Client("embedded") as client:
            whole = await client.cross_entropy(X, Y, grad=True, transport="unary")
            ways: list[Any] = ["stream", "shared_memory", "auto"]
            for result in await asyncio.gather(
                *[client.cross_entropy(X, Y, grad=True, transport=way) for way in ways * 4]
            ):
                same(result, whole)

    asyncio.run(main())
