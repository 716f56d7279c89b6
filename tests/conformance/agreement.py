"""A result against its oracle: loss, gradients, outputs and summary."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

import lossd
from lossd.results import Summary
from lossd_server.backends import Backend
from tests.conformance.cases import Asked, Case
from tests.conformance.path import answer, answers
from tests.conformance.pytorch import results
from tests.conformance.tally import TALLY
from tests.oracle import REFERENCES
from tests.oracle.accepted import ULPS, assert_accepted, ulp
from tests.oracle.exact import Number, Numbers, full, largest, mp
from tests.oracle.reducing import Reference

EIGHT_BITS = ("float8_e4m3fn", "float8_e5m2")
SHORT = ("float16", "bfloat16", *EIGHT_BITS)
# Options that change neither the losses nor their sum.
OF_THE_ANSWER = ("normalizer", "grad_output", "grad", "outputs", "reduction")


def assert_cases(backend: Backend, cases: Iterable[Case]) -> None:
    """Each alone; the first that disagrees is named."""
    for case in cases:
        result = answer(backend, case.asked.method, *case.asked.tensors, **case.asked.options)
        assert_case(backend, result, case)


def assert_batch(backend: Backend, cases: list[Case]) -> None:
    """All in one batch."""
    for result, case in zip(answers(backend, [case.asked for case in cases]), cases, strict=True):
        assert_case(backend, result, case)


def assert_case(backend: Backend, result: lossd.Result, case: Case) -> None:
    try:
        assert_agrees(result, case.asked, name=f"{case.name}, {backend.name}")
    except AssertionError as error:
        error.add_note(f"in the case {case.name} on {backend.name}")
        raise
    TALLY.calls[backend.name] += 1


def reference(asked: Asked) -> Reference:
    return REFERENCES[asked.method](*asked.tensors, **asked.options)


def asked_gradients(asked: Asked) -> set[str]:
    grad = asked.options.get("grad")
    return {"input"} if grad is True else {grad} if isinstance(grad, str) else set(grad or ())


def loss_dtype(asked: Asked) -> str:
    """float64 where any tensor is, else float32; an activation's values have their input's."""
    if is_activation(asked):
        return gradient_dtype(asked.tensors[0])
    tensors = [*asked.tensors, *(v for v in asked.options.values() if isinstance(v, np.ndarray))]
    return "float64" if any(t.dtype == np.float64 for t in tensors) else "float32"


def is_activation(asked: Asked) -> bool:
    """An activation: it has no summary."""
    return asked.method in ("softmax", "log_softmax", "sigmoid", "log_sigmoid")


def gradient_dtype(tensor: Any) -> str:
    """The tensor's own, but float32 for 8-bit floats."""
    return "float32" if str(tensor.dtype) in EIGHT_BITS else str(tensor.dtype)


def assert_agrees(
    result: lossd.Result, asked: Asked, size: Number = 0, name: str = "", truth: Reference | None = None
) -> None:
    """Every part of the result is there, of the right dtype and shape, and within the accepted error.

    size: of the terms that a gradient is the difference of, for values with which all of it may vanish. name: of the
    case, for the tally. truth: the oracle's answer, where it is known.
    """
    truth = truth or reference(asked)
    assert set(result.grads) == asked_gradients(asked)
    assert set(result.outputs) == set(truth.outputs)

    dtype = loss_dtype(asked)
    terms = 1 if truth.loss.shape else truth.count
    accept("loss", result.loss, truth.loss, dtype, asked, terms, truth.sizes.get("loss", 0), name=name)
    for operand, gradient in result.grads.items():
        unit = max(size, truth.sizes.get(operand, 0))
        added = truth.count if operand == "weight" else 1
        expected = _dtype_of(operand, asked, dtype)
        accept(operand, gradient, truth.grads[operand], expected, asked, added, unit, name=name)
    for output, values in truth.outputs.items():
        if values.dtype == object:
            unit = truth.sizes.get(output, 0)
            accept(output, result.outputs[output], values, dtype, asked, size=unit, name=name)
        else:
            assert result.outputs[output].dtype == values.dtype
            np.testing.assert_array_equal(result.outputs[output], values, output)
    if not is_activation(asked):
        assert_summary(result.summary, truth, asked, dtype, name)


def _dtype_of(operand: str, asked: Asked, dtype: str) -> str:
    """Of a gradient. A class weight that was not given is ones of the loss's dtype."""
    if operand != "weight":
        return gradient_dtype(asked.tensors[("input", "target").index(operand)])
    weight = asked.options.get("weight")
    return dtype if weight is None else gradient_dtype(weight)


def assert_summary(summary: Summary, truth: Reference, asked: Asked, dtype: str, name: str) -> None:
    """The denominator in float64; the sum as right as its rows are, whatever it is stored in."""
    assert summary.count == truth.count
    weight_sum, whole = np.float64(summary.weight_sum), full((), truth.weight_sum)
    assert_accepted(weight_sum, whole, "float64", terms=truth.count, what="weight_sum")
    if mp.isfinite(truth.loss_sum):
        narrowed = np.asarray(summary.loss_sum).astype(dtype)
        alone = {k: v for k, v in asked.options.items() if k not in OF_THE_ANSWER}
        summed = Asked(asked.method, asked.tensors, alone | {"reduction": "sum"})
        whole, unit = full((), truth.loss_sum), truth.sizes.get("loss_sum", 0)
        accept("loss_sum", narrowed, whole, dtype, summed, truth.count, unit, name=name)


def in_float32(asked: Asked) -> Asked:
    """The same call with its 8- and 16-bit tensors as float32: what they are computed in."""

    def wide(value: Any) -> Any:
        short = isinstance(value, np.ndarray) and str(value.dtype) in SHORT
        return value.astype(np.float32) if short else value

    options = {name: wide(value) for name, value in asked.options.items()}
    return Asked(asked.method, tuple(wide(t) for t in asked.tensors), options)


def accept(
    what: str,
    actual: Any,
    truth: Numbers,
    dtype: str,
    asked: Asked,
    terms: int = 1,
    size: Number = 0,
    name: str = "",
) -> None:
    """Within the accepted error; PyTorch is asked for its own only where 4 ulp are not enough."""
    try:
        ulps = assert_accepted(actual, truth, dtype, terms=terms, size=size, what=what)
    except AssertionError:
        theirs = results(in_float32(asked))
        part = "loss" if what == "loss_sum" else what
        if theirs is None or part not in theirs:
            raise
        ulps = assert_accepted(actual, truth, dtype, theirs[part], terms=terms, size=size, what=what)
        TALLY.beyond[dtype] += 1
    if name:
        top = largest(truth.reshape(-1))
        nothing = top < size * mp.mpf("1e-30")  # all cancelled: what is left is the oracle's own last digits
        alone = ulps if nothing else float(ulps * ulp(max(top, mp.mpf(size)), dtype) / ulp(top, dtype))
        TALLY.error(dtype, ulps, alone, ULPS[dtype], f"{what} of {name}")
