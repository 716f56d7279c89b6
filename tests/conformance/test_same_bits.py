"""Same request, same bits: whatever it shares its batch with, the number of threads, the client's memory layout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import lossd
from lossd_server.backends import Backend
from tests.conformance.cases import Asked, case
from tests.conformance.losses import LOSSES
from tests.conformance.path import answer, answers
from tests.conformance.values import DTYPES, EIGHT_BITS

RAGGED = 400  # each loss and each of its options some times


def bits(result: lossd.Result) -> dict[str, bytes]:
    """Every number of a result but the timing, as bytes."""
    arrays = {"loss": result.loss} | result.grads | result.outputs
    summary = [result.summary.loss_sum, result.summary.weight_sum, float(result.summary.count)]
    return {name: np.asarray(a).tobytes() for name, a in arrays.items()} | {"summary": np.array(summary).tobytes()}


def ragged(number: int) -> list[Asked]:
    """Calls of different losses, shapes, dtypes and options, from a seed."""
    rng = np.random.default_rng(200)
    asked = []
    for _ in range(number):
        loss = str(rng.choice(list(LOSSES)))
        of = LOSSES[loss]
        option = str(rng.choice(list(of.options)))
        n, c, d = int(rng.integers(1, 40)), int(rng.choice([2, 3, 10, 16, 17, 100, 513])), int(rng.integers(1, 6))
        shape = [(c,), (n, c), (n, c, d), (min(n, 4), c, d, 2)][int(rng.integers(4))]
        reduction, dtype = str(rng.choice(of.reductions)), str(rng.choice(list(DTYPES | EIGHT_BITS)))
        asked.append(case(loss, option, reduction, dtype, shape).asked)
    return asked


@pytest.fixture(scope="module", params=[1, 2, 4])
def threads(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """A CPU backend of that many threads."""
    from lossd_server.backends.numba import NumbaBackend

    backend = NumbaBackend(request.param)
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def alone(numba: Backend) -> list[dict[str, bytes]]:
    """400 calls, each in a batch of its own."""
    return [bits(answer(numba, one.method, *one.tensors, **one.options)) for one in ragged(RAGGED)]


def test_a_batch_of_400_equals_each_alone(threads: Backend, alone: list[dict[str, bytes]]) -> None:
    """400 ragged requests in one batch are each what they are alone, on any number of threads."""
    together = [bits(result) for result in answers(threads, ragged(RAGGED))]

    assert together == alone


def test_order_in_the_batch_does_not_matter(threads: Backend, alone: list[dict[str, bytes]]) -> None:
    """Backwards and in groups of 7: the same bits."""
    asked = ragged(RAGGED)[::-1]
    grouped = [bits(r) for at in range(0, RAGGED, 7) for r in answers(threads, asked[at : at + 7])]

    assert grouped[::-1] == alone


def test_a_large_request_on_any_number_of_threads(numba: Backend, threads: Backend) -> None:
    """Requests that are cut into pieces for the threads are added up in one order."""
    rng = np.random.default_rng(8)
    x = rng.normal(size=(3000, 100)).astype(np.float32)
    t = rng.uniform(size=(3000, 100)).astype(np.float32)
    y = rng.integers(0, 100, 3000)
    both: dict[str, Any] = {"kind": "logits", "target_kind": "logits", "grad": ("input", "target")}
    outputs = ("lse", "entropy", "argmax", "correct")
    for method, tensors, options in (
        ("cross_entropy", (x, y), {"z_loss": 0.1, "softcap": 20.0, "outputs": outputs}),
        ("cross_entropy", (x, t), {"grad": ("input", "target", "weight")}),
        ("cross_entropy", (t, t), {"kind": "counts", "target_kind": "counts", "grad": ("input", "weight")}),
        ("entropy", (x.reshape(30, 100, 100),), {"kind": "logits"}),
        ("bce_with_logits", (x, t), {}),
        ("bce", (t.reshape(7500, 40), t.reshape(7500, 40)), {}),
        ("kl_divergence", (x, t), {}),
        ("kl_divergence", (x, x[::-1]), both),
        ("nll", (x, y), {}),
        ("self_information", (t,), {"reduction": "mean"}),
        ("softmax", (x,), {}),
        ("sigmoid", (x,), {}),
    ):
        asked = {"grad": True} | options
        assert bits(answer(threads, method, *tensors, **asked)) == bits(answer(numba, method, *tensors, **asked))


def strided(array: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """The same numbers in other memory: Fortran order, every second element, backwards."""
    wide = np.repeat(array, 2, axis=-1) if array.ndim else array
    flipped = np.flip(np.flip(array).copy())
    return [np.asfortranarray(array), wide[..., ::2] if array.ndim else array, flipped]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_memory_layout_of_the_client(numba: Backend, loss: str, dtype: str) -> None:
    """Arrays that are not C-contiguous give the bits of their C-contiguous copies."""
    one = case(loss, "plain", LOSSES[loss].reductions[0], dtype, (5, 17, 3)).asked
    expected = bits(answer(numba, one.method, *one.tensors, **one.options))

    for tensors in zip(*(strided(t) for t in one.tensors), strict=True):
        assert bits(answer(numba, one.method, *tensors, **one.options)) == expected


def moved(array: npt.NDArray[Any], classes: int) -> list[npt.NDArray[Any]]:
    """(N, C) as (N, C, 1), (1, C, N), (N, C, 1, 1) and (1, C, 1, N); (N) likewise without C."""
    n = array.shape[0]
    if array.ndim == 1:
        return [array.reshape(n, 1), array.reshape(1, n), array.reshape(n, 1, 1), array.reshape(1, 1, n)]
    t = np.ascontiguousarray(array.T)
    return [
        array.reshape(n, classes, 1),
        t.reshape(1, classes, n),
        array.reshape(n, classes, 1, 1),
        t.reshape(1, classes, 1, n),
    ]


@pytest.mark.parametrize("classes", [2, 3, 10, 17, 100, 4099])
@pytest.mark.parametrize("loss", [loss for loss, of in LOSSES.items() if not of.elementwise])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_layout_of_the_rows(numba: Backend, loss: str, classes: int, dtype: str) -> None:
    """The same rows as (N, C), (N, C, 1) and with their classes far apart, (1, C, N): the same bits."""
    of = LOSSES[loss]
    reduction = "" if of.activation else "none"
    one = case(loss, "plain", reduction, dtype, (21 if classes < 1000 else 5, classes)).asked
    plain = answer(numba, one.method, *one.tensors, **one.options)

    for n, tensors in enumerate(zip(*(moved(t, classes) for t in one.tensors), strict=True)):
        other = answer(numba, one.method, *tensors, **one.options)
        by_row = plain.loss if plain.loss.ndim == 1 else moved(plain.loss, classes)[n]
        assert other.loss.tobytes() == by_row.tobytes()
        for name, gradient in plain.grads.items():
            assert other.grads[name].tobytes() == moved(gradient, classes)[n].tobytes()


@pytest.mark.parametrize("rows", [1, 2, 7, 33])
def test_rows_do_not_know_their_neighbours(numba: Backend, rows: int) -> None:
    """A row's loss and gradient have the same bits whatever the number of rows."""
    x = np.random.default_rng(9).normal(size=(64, 10)).astype(np.float32)
    y = np.arange(64) % 10
    whole = answer(numba, "cross_entropy", x, y, reduction="none", grad=True)
    part = answer(numba, "cross_entropy", x[:rows], y[:rows], reduction="none", grad=True)

    assert part.loss.tobytes() == whole.loss[:rows].tobytes()
    assert part.grad.tobytes() == whole.grad[:rows].tobytes()


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_do_not_change_the_loss(numba: Backend, loss: str) -> None:
    """The loss has the same bits whether gradients were asked for or not."""
    for reduction in LOSSES[loss].reductions:
        one = case(loss, "plain", reduction, "float32", (9, 100)).asked
        without = answer(numba, one.method, *one.tensors, **one.options | {"grad": None})

        assert without.loss.tobytes() == answer(numba, one.method, *one.tensors, **one.options).loss.tobytes()


def test_a_batch_on_triton_equals_each_alone(triton: Backend) -> None:
    """The other backend keeps its own bits too."""
    asked = [one for one in ragged(100) if one.tensors[0].size < 300][:24]
    single = [bits(answer(triton, one.method, *one.tensors, **one.options)) for one in asked]

    assert [bits(result) for result in answers(triton, asked)] == single
