"""Every loss × option × reduction × dtype × layout on both backends, to the accepted error."""

from __future__ import annotations

import numpy as np
import pytest

from lossd_server.backends import Backend
from tests.conformance.agreement import assert_agrees
from tests.conformance.cases import SIZES, Asked, Case, every_option, grid, sizes
from tests.conformance.path import answer, answers

SMALL = [case for case in sizes() if max(case.asked.tensors[0].shape) <= 100]


@pytest.mark.parametrize("case", list(grid()), ids=str)
def test_grid(numba: Backend, case: Case) -> None:
    """Loss, gradients and summary are what the closed forms say, for every combination of options."""
    result = answer(numba, case.asked.method, *case.asked.tensors, **case.asked.options)

    assert_agrees(result, case.asked)


@pytest.mark.parametrize("case", list(sizes()), ids=lambda case: f"{case} ({SIZES[case.asked.tensors[0].shape]})")
def test_sizes(numba: Backend, case: Case) -> None:
    """No number of classes or rows is special."""
    result = answer(numba, case.asked.method, *case.asked.tensors, **case.asked.options)

    assert_agrees(result, case.asked)


@pytest.mark.parametrize("case", list(every_option()), ids=str)
def test_grid_on_triton(triton: Backend, case: Case) -> None:
    """Every loss and option has the same meaning on the other backend."""
    result = answer(triton, case.asked.method, *case.asked.tensors, **case.asked.options)

    assert_agrees(result, case.asked)


@pytest.mark.parametrize("loss", sorted({case.name.split(",")[0] for case in SMALL}))
def test_sizes_on_triton(triton: Backend, loss: str) -> None:
    """One ragged batch of every small size and dtype is right in each of its parts."""
    asked = [case.asked for case in SMALL if case.name.startswith(loss + ",")]

    for result, one in zip(answers(triton, asked), asked, strict=True):
        assert_agrees(result, one)


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
    for asked in (
        Asked("cross_entropy", (logits, np.array([0, 2, 1, 2], dtype)), {"grad": True}),
        Asked("bce_with_logits", (logits, rng.integers(0, 2, (4, 3)).astype(dtype)), {"grad": True}),
        Asked("bce", (np.full((4, 3), 0.25, np.float32), rng.integers(0, 2, (4, 3)).astype(dtype)), {"grad": True}),
        Asked("entropy", (rng.integers(1, 99, (4, 3)).astype(dtype),), {"kind": "counts"}),
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
