"""Every loss × option × reduction × dtype × layout on both backends, to the accepted error."""

from __future__ import annotations

import numpy as np
import pytest

from lossd_server.backends import Backend
from tests.conformance.agreement import assert_agrees, assert_batch, assert_cases
from tests.conformance.cases import Asked, every_option, grid, sizes
from tests.conformance.losses import LOSSES
from tests.conformance.path import answer
from tests.conformance.values import Array

EVERY_OPTION = [(loss, option) for loss, of in LOSSES.items() for option in of.options]


@pytest.mark.parametrize("loss, option", EVERY_OPTION, ids=[", ".join(pair) for pair in EVERY_OPTION])
def test_grid(numba: Backend, loss: str, option: str) -> None:
    """Loss, gradients, outputs and summary are what the closed forms say, in every dtype, layout and reduction."""
    assert_cases(numba, grid(loss, option))


@pytest.mark.parametrize("loss", LOSSES)
def test_sizes(numba: Backend, loss: str) -> None:
    """No number of classes or rows is special."""
    assert_cases(numba, sizes(loss))


@pytest.mark.parametrize("loss", LOSSES)
def test_grid_on_triton(triton: Backend, loss: str) -> None:
    """Every loss and option has the same meaning on the other backend."""
    assert_cases(triton, every_option(loss))


@pytest.mark.parametrize("loss", LOSSES)
def test_sizes_on_triton(triton: Backend, loss: str) -> None:
    """One ragged batch of every small size is right in each of its parts."""
    assert_batch(triton, [case for case in sizes(loss) if max(case.asked.tensors[0].shape) <= 100])


@pytest.mark.parametrize("shape", [(4100,), (3, 4097), (17, 513), (2, 3, 701)])
@pytest.mark.parametrize("method", ["bce", "bce_with_logits"])
def test_elements_over_many_chunks(numba: Backend, method: str, shape: tuple[int, ...]) -> None:
    """Sums over more elements than one run holds, and items that do not fill their chunk, are right."""
    rng = np.random.default_rng(7)
    tensors = tuple(rng.uniform(0.1, 0.9, shape).astype(np.float32) for _ in range(2))
    asked = Asked(method, tensors, {"grad": ("input", "target"), "reduction": "mean"})

    assert_agrees(answer(numba, method, *tensors, **asked.options), asked)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.int32, np.int64])
def test_integers(numba: Backend, dtype: type) -> None:
    """Class indices, counts and elementwise targets come in any integer dtype."""
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(4, 3)).astype(np.float32)
    counts: Array = rng.integers(1, 99, (4, 3)).astype(dtype)
    for asked in (
        Asked("cross_entropy", (logits, np.array([0, 2, 1, 2], dtype)), {"grad": True}),
        Asked("bce_with_logits", (logits, rng.integers(0, 2, (4, 3)).astype(dtype)), {"grad": True}),
        Asked("bce", (np.full((4, 3), 0.25, np.float32), rng.integers(0, 2, (4, 3)).astype(dtype)), {"grad": True}),
        Asked("entropy", (rng.integers(1, 99, (4, 3)).astype(dtype),), {"kind": "counts"}),
        Asked("nll", (-np.abs(logits), np.array([0, 2, 1, 2], dtype)), {"grad": True}),
        Asked("kl_divergence", (counts, counts[::-1]), {"kind": "counts", "target_kind": "counts"}),
        Asked("cross_entropy", (counts, counts[::-1]), {"kind": "counts", "target_kind": "counts"}),
        Asked("cross_entropy", (logits, counts), {"target_kind": "counts", "grad": True}),
    ):
        assert_agrees(answer(numba, asked.method, *asked.tensors, **asked.options), asked)


def test_bool_targets(numba: Backend) -> None:
    """bool targets are 0 and 1 for BCE and BCEWithLogits."""
    rng = np.random.default_rng(4)
    p, t = rng.uniform(0.1, 0.9, (4, 3)).astype(np.float32), rng.random((4, 3)) < 0.5
    for method in ("bce", "bce_with_logits"):
        asked = Asked(method, (p, t), {"grad": True})
        assert_agrees(answer(numba, method, p, t, grad=True), asked)


def test_mixed_dtypes(numba: Backend) -> None:
    """Floats mix: the loss is float64 where any tensor is, and each gradient has its own tensor's dtype."""
    rng = np.random.default_rng(5)
    x, t = rng.normal(size=(4, 3)), rng.uniform(size=(4, 3))
    options = {"grad": ("input", "target"), "reduction": "mean"}
    for asked in (
        Asked("cross_entropy", (x.astype(np.float32), t.astype(np.float16)), options),
        Asked("cross_entropy", (x.astype(np.float16), t), options),
        Asked("cross_entropy", (x.astype(np.float32), t.astype(np.float32)), options | {"weight": np.ones(3)}),
        Asked("bce_with_logits", (x, t.astype(np.float16)), options),
        Asked("bce", (t.astype(np.float16), t.astype(np.float32)), options),
    ):
        assert_agrees(answer(numba, asked.method, *asked.tensors, **asked.options), asked)


def test_dim_of_entropy(numba: Backend) -> None:
    """`dim` moves the class dimension, from either end."""
    x = np.random.default_rng(6).normal(size=(2, 3, 4)).astype(np.float32)
    for dim in (0, 1, 2, -1, -3):
        asked = Asked("entropy", (x,), {"kind": "logits", "dim": dim, "reduction": "none", "grad": True})
        assert_agrees(answer(numba, "entropy", x, **asked.options), asked)


@pytest.mark.parametrize("method", ["softmax", "log_softmax"])
def test_dim_of_activations(numba: Backend, method: str) -> None:
    """So it does for softmaxes, in every dtype, with an upstream gradient; a scalar is a row of one class."""
    rng = np.random.default_rng(7)
    for dtype, shape in ((np.float32, (2, 3, 4)), (np.float64, (5, 37)), (np.float16, (3, 4)), (np.float32, ())):
        x, g = rng.normal(size=shape).astype(dtype), rng.normal(size=shape).astype(dtype)
        for dim in (None, *range(-x.ndim, x.ndim)):
            asked = Asked(method, (x,), {"dim": dim, "grad": True, "grad_output": g})
            assert_agrees(answer(numba, method, x, **asked.options), asked)
