"""A result against its oracle: loss, gradients and summary."""

from __future__ import annotations

from typing import Any

import numpy as np

import lossd
from tests.conformance.cases import Asked
from tests.conformance.pytorch import results
from tests.oracle import REFERENCES
from tests.oracle.accepted import assert_accepted
from tests.oracle.exact import Numbers, full, mp
from tests.oracle.reducing import Reference


def reference(asked: Asked) -> Reference:
    return REFERENCES[asked.method](*asked.tensors, **asked.options)


def asked_gradients(asked: Asked) -> set[str]:
    grad = asked.options.get("grad")
    return {"input"} if grad is True else set(grad or ())


def loss_dtype(asked: Asked) -> str:
    """float64 where any tensor is, else float32."""
    tensors = [*asked.tensors, *(v for v in asked.options.values() if isinstance(v, np.ndarray))]
    return "float64" if any(t.dtype == np.float64 for t in tensors) else "float32"


def assert_agrees(result: lossd.Result, asked: Asked, size: float = 0.0) -> None:
    """Every part of the result is there, of the right dtype and shape, and within the accepted error.

    size: of the terms that a gradient is the difference of, for values with which all of it may vanish.
    """
    truth = reference(asked)
    assert set(result.grads) == asked_gradients(asked)

    terms = 1 if asked.options.get("reduction") == "none" else truth.count
    accept("loss", result.loss, truth.loss, loss_dtype(asked), asked, terms)
    for name, gradient in result.grads.items():
        tensor = asked.tensors[("input", "target").index(name)]
        accept(name, gradient, truth.grads[name], str(tensor.dtype), asked, size=max(size, truth.sizes.get(name, 0)))
    summary = result.summary
    assert summary.count == truth.count
    assert_accepted(
        np.float64(summary.weight_sum), full((), truth.weight_sum), "float64", terms=truth.count, what="weight_sum"
    )
    if mp.isfinite(truth.loss_sum):
        unit = loss_dtype(asked)  # the sum's rows are right to that much, whatever it is stored in
        narrowed = np.asarray(summary.loss_sum).astype(unit)
        alone = {k: v for k, v in asked.options.items() if k not in ("normalizer", "grad_output")}
        summed = Asked(asked.method, asked.tensors, alone | {"reduction": "sum"})
        accept("loss_sum", narrowed, full((), truth.loss_sum), unit, summed, terms=truth.count)


def in_float32(asked: Asked) -> Asked:
    """The same call with its 16-bit tensors as float32: what they are computed in."""

    def wide(value: Any) -> Any:
        short = isinstance(value, np.ndarray) and str(value.dtype) in ("float16", "bfloat16")
        return value.astype(np.float32) if short else value

    options = {name: wide(value) for name, value in asked.options.items()}
    return Asked(asked.method, tuple(wide(t) for t in asked.tensors), options)


def accept(what: str, actual: Any, truth: Numbers, dtype: str, asked: Asked, terms: int = 1, size: float = 0.0) -> None:
    """Within the accepted error; PyTorch is asked for its own only where 4 ulp are not enough."""
    try:
        assert_accepted(actual, truth, dtype, terms=terms, size=size, what=what)
    except AssertionError:
        theirs = results(in_float32(asked))
        name = "loss" if what == "loss_sum" else what
        if theirs is None or name not in theirs:
            raise
        assert_accepted(actual, truth, dtype, theirs[name], terms=terms, size=size, what=what)
