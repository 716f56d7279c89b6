"""Whatever the shapes, options and extremes: the oracle's answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lossd_server.backends import Backend
from tests.conformance.agreement import assert_agrees
from tests.conformance.cases import REDUCTIONS, Asked
from tests.conformance.path import answer

Array = npt.NDArray[Any]
# The same examples every time: a conformance suite says the same of the same build.
MODEST = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
EXTREME = st.sampled_from([1e4, -1e4, float("inf"), -float("inf"), float("nan"), 0.0, 88.0, -103.0])
LOGIT = st.floats(-30, 30, width=32) | EXTREME
UNIT = st.sampled_from([0.0, 1.0, 0.5]) | st.floats(2**-20, 1, width=32)
SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5)
FLOATS = st.sampled_from([np.float32, np.float64])


def arrays(dtype: Any, shape: tuple[int, ...], numbers: st.SearchStrategy[float]) -> st.SearchStrategy[Array]:
    equal = numbers.map(lambda value: np.full(shape, value, dtype))
    return hnp.arrays(np.float64, shape, elements=numbers).map(lambda a: a.astype(dtype)) | equal


def check(backend: Backend, asked: Asked) -> None:
    """To the accepted error; gradients, which all-equal values may cancel altogether, in ulp of 1 (1/N for mean)."""
    result = answer(backend, asked.method, *asked.tensors, **asked.options)

    assert_agrees(
        result, asked, size=1.0 / max(result.summary.count, 1) if asked.options["reduction"] == "mean" else 1.0
    )


@MODEST
@given(data=st.data(), shape=SHAPES, dtype=FLOATS, reduction=st.sampled_from(REDUCTIONS))
def test_cross_entropy_by_index(
    numba: Backend, data: st.DataObject, shape: tuple[int, ...], dtype: Any, reduction: str
) -> None:
    """Any logits, weights, smoothing and ignored class: the loss and gradient of the closed form."""
    classes = shape[0] if len(shape) == 1 else shape[1]
    rows = () if len(shape) == 1 else (shape[0], *shape[2:])
    x = data.draw(arrays(dtype, shape, LOGIT))
    y = data.draw(hnp.arrays(np.int64, rows, elements=st.integers(0, classes - 1)))
    options: dict[str, Any] = {"reduction": reduction, "grad": True}
    options["label_smoothing"] = data.draw(st.sampled_from([0.0, 0.1, 1.0]))
    options["ignore_index"] = data.draw(st.sampled_from([-100, 0]))
    if data.draw(st.booleans()):
        options["weight"] = data.draw(hnp.arrays(dtype, (classes,), elements=st.sampled_from([0.0, 0.5, 1.0, 3.0])))

    check(numba, Asked("cross_entropy", (x, y), options))


@MODEST
@given(data=st.data(), shape=SHAPES, dtype=FLOATS, reduction=st.sampled_from(REDUCTIONS))
def test_cross_entropy_by_distribution(
    numba: Backend, data: st.DataObject, shape: tuple[int, ...], dtype: Any, reduction: str
) -> None:
    """Any logits and any targets in [0, 1], zeros and ones among them."""
    x, t = data.draw(arrays(dtype, shape, LOGIT)), data.draw(arrays(dtype, shape, UNIT))
    smoothing = data.draw(st.sampled_from([0.0, 0.1, 1.0]))

    check(numba, Asked("cross_entropy", (x, t), {"reduction": reduction, "grad": True, "label_smoothing": smoothing}))


@MODEST
@given(data=st.data(), shape=SHAPES, dtype=FLOATS, reduction=st.sampled_from(REDUCTIONS))
def test_elementwise(numba: Backend, data: st.DataObject, shape: tuple[int, ...], dtype: Any, reduction: str) -> None:
    """BCEWithLogits of any logits and BCE of any probabilities, with weights that may be 0."""
    x, p, t = (data.draw(arrays(dtype, shape, numbers)) for numbers in (LOGIT, UNIT, UNIT))
    weight = data.draw(hnp.arrays(dtype, shape[-1:], elements=st.sampled_from([0.0, 0.5, 1.0])))
    options = {"reduction": reduction, "grad": ("input", "target"), "weight": weight}

    check(numba, Asked("bce", (p, t), options))
    check(numba, Asked("bce_with_logits", (x, t), options | {"pos_weight": weight[:1]}))


@MODEST
@given(data=st.data(), shape=SHAPES, dtype=FLOATS, reduction=st.sampled_from(REDUCTIONS))
def test_entropy(numba: Backend, data: st.DataObject, shape: tuple[int, ...], dtype: Any, reduction: str) -> None:
    """Entropy of any logits, of any probabilities, of any counts that are not all 0."""
    options = {"reduction": reduction, "grad": True}
    x, p = data.draw(arrays(dtype, shape, LOGIT)), data.draw(arrays(dtype, shape, UNIT))
    k = data.draw(arrays(dtype, shape, st.integers(1, 1000).map(float)))

    check(numba, Asked("entropy", (x,), options | {"kind": "logits"}))
    check(numba, Asked("entropy", (p,), options))
    check(numba, Asked("entropy", (k,), options | {"kind": "counts"}))
