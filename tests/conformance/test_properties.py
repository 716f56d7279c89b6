"""Whatever the shapes, options and extremes: the oracle's answer."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lossd_server.backends import Backend
from tests.conformance.agreement import assert_agrees, reference
from tests.conformance.cases import Asked
from tests.conformance.losses import KINDS, REDUCTIONS
from tests.conformance.path import answer
from tests.conformance.values import Array
from tests.oracle.exact import mp

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

    mean = asked.options.get("reduction") == "mean"
    assert_agrees(result, asked, size=1.0 / max(result.summary.count, 1) if mean else 1.0)


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


ROW_WEIGHT = st.sampled_from([0.0, 0.5, 1.0, 2.0])
# exp of them is a normal number, so that what is 0 here is 0 there.
MODERATE = st.floats(-30, 30, width=32) | st.just(-float("inf"))
OF_KIND: dict[str, st.SearchStrategy[float]] = {
    "logits": MODERATE,
    "log_probabilities": st.floats(-30, 0, width=32) | st.sampled_from([-float("inf"), float("nan"), 0.0]),
    "probabilities": UNIT,
    "counts": st.integers(0, 1000).map(float),
}


def rows_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    return () if len(shape) == 1 else (shape[0], *shape[2:])


def of_kind(data: st.DataObject, kind: str, dtype: Any, shape: tuple[int, ...]) -> Array:
    """Any numbers of the kind; counts have one above 0 in each row."""
    values: Array = data.draw(arrays(dtype, shape, OF_KIND[kind]))
    if kind == "counts":
        np.moveaxis(values, 0 if len(shape) == 1 else 1, 0)[0] += 1
    return values


@MODEST
@given(data=st.data(), shape=SHAPES, dtype=FLOATS, reduction=st.sampled_from(REDUCTIONS))
def test_softmax_options(
    numba: Backend, data: st.DataObject, shape: tuple[int, ...], dtype: Any, reduction: str
) -> None:
    """Row weights, z-loss, caps and by-products of any ordinary logits, by index and by distribution."""
    x = data.draw(arrays(dtype, shape, st.floats(-30, 30, width=32)))
    options: dict[str, Any] = {"reduction": reduction, "outputs": ("lse", "entropy")}
    options["row_weight"] = data.draw(hnp.arrays(dtype, rows_of(shape), elements=ROW_WEIGHT))
    options["z_loss"] = data.draw(st.sampled_from([0.0, 1e-4, 1.0]))
    options["softcap"] = data.draw(st.sampled_from([None, 1.0, 30.0]))
    classes = shape[0] if len(shape) == 1 else shape[1]
    y = data.draw(hnp.arrays(np.int8, rows_of(shape), elements=st.integers(0, classes - 1)))
    t = data.draw(arrays(dtype, shape, UNIT))

    check(numba, Asked("cross_entropy", (x, y), options | {"grad": True}))
    check(numba, Asked("cross_entropy", (x, t), options | {"grad": ("input", "target", "weight")}))


@MODEST
@given(data=st.data(), shape=SHAPES, dtype=FLOATS, reduction=st.sampled_from(REDUCTIONS), kind=st.sampled_from(KINDS))
def test_cross_entropy_of_kinds(
    numba: Backend, data: st.DataObject, shape: tuple[int, ...], dtype: Any, reduction: str, kind: str
) -> None:
    """Any numbers of any kind, zeros and infinities among them, with weights that may be 0."""
    x, t = of_kind(data, kind, dtype, shape), of_kind(data, "probabilities", dtype, shape)
    classes = shape[0] if len(shape) == 1 else shape[1]
    weight = data.draw(hnp.arrays(dtype, (classes,), elements=ROW_WEIGHT))
    options = {"reduction": reduction, "kind": kind, "weight": weight, "base": 2.0}

    check(numba, Asked("cross_entropy", (x, t), options | {"grad": ("input", "target", "weight")}))
    k = of_kind(data, "counts", dtype, shape)
    check(numba, Asked("cross_entropy", (x, k), options | {"grad": ("input",), "target_kind": "counts"}))


@MODEST
@given(
    data=st.data(),
    shape=SHAPES,
    dtype=FLOATS,
    reduction=st.sampled_from([*REDUCTIONS, "batchmean"]),
    kind=st.sampled_from(KINDS),
    target_kind=st.sampled_from(KINDS),
)
def test_divergence(
    numba: Backend,
    data: st.DataObject,
    shape: tuple[int, ...],
    dtype: Any,
    reduction: str,
    kind: str,
    target_kind: str,
) -> None:
    """KLDivergence of any two kinds, zeros and infinities on either side.

    Target logits whose divergence is infinite have no gradient that means anything.
    """
    x, t = of_kind(data, kind, dtype, shape), of_kind(data, target_kind, dtype, shape)
    options = {"reduction": reduction, "kind": kind, "target_kind": target_kind}
    asked = Asked("kl_divergence", (x, t), options | {"grad": ("input",)})

    check(numba, asked)
    finite = target_kind != "logits" or mp.isfinite(reference(asked).loss_sum)
    if target_kind != "counts" and finite:
        check(numba, Asked("kl_divergence", (x, t), options | {"grad": ("input", "target")}))


@MODEST
@given(data=st.data(), shape=SHAPES, dtype=FLOATS, reduction=st.sampled_from(REDUCTIONS))
def test_nll_and_self_information(
    numba: Backend, data: st.DataObject, shape: tuple[int, ...], dtype: Any, reduction: str
) -> None:
    """NLL of any log-probabilities and self-information of any probabilities."""
    u, p = of_kind(data, "log_probabilities", dtype, shape), of_kind(data, "probabilities", dtype, shape)
    classes = shape[0] if len(shape) == 1 else shape[1]
    y = data.draw(hnp.arrays(np.int16, rows_of(shape), elements=st.integers(-1, classes - 1)))
    weight = data.draw(hnp.arrays(dtype, (classes,), elements=ROW_WEIGHT))

    options = {"reduction": reduction, "grad": True}
    check(numba, Asked("nll", (u, y), options | {"weight": weight, "ignore_index": -1}))
    check(numba, Asked("self_information", (p,), options | {"base": 10.0}))


@MODEST
@given(data=st.data(), shape=SHAPES, dtype=FLOATS)
def test_activations(numba: Backend, data: st.DataObject, shape: tuple[int, ...], dtype: Any) -> None:
    """Activations of any numbers along any dimension, and their gradients."""
    x, g = data.draw(arrays(dtype, shape, LOGIT)), data.draw(arrays(dtype, shape, st.floats(-4, 4, width=32)))
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    options: dict[str, Any] = {"grad": True, "grad_output": g}

    for method in ("softmax", "log_softmax"):
        check(numba, Asked(method, (x,), options | {"dim": dim}))
    for method in ("sigmoid", "log_sigmoid"):
        check(numba, Asked(method, (x,), options))
