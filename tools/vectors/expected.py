"""Expected answers: the oracle's numbers, rounded to what JSON holds, with the error that semantics accepts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np

from tests.oracle import REFERENCES
from tests.oracle.accepted import allowed
from tests.oracle.exact import Number, Numbers, full, mp
from tests.oracle.reducing import Reference
from vectors.case import Case
from vectors.request import FUNCTIONS
from vectors.values import Array

EIGHT_BITS = ("float8_e4m3fn", "float8_e5m2")
# Entries of float32 that a formula without cancellation has right, each by itself.
EACH = 1e-6
# Far finer than the accepted error, and shorter to read than all digits.
DIGITS = {"float64": 17}
FEWER_DIGITS = 12

Json = dict[str, Any]


def response(case: Case) -> Json:
    """The answer as tests/vectors/README.md describes it."""
    ignored = ("reduction",) if case.method in FUNCTIONS else ()
    options = {name: value for name, value in case.options.items() if name not in ignored}
    truth = REFERENCES[case.method](*case.tensors, **options)
    dtype = _loss_dtype(case)
    terms = 1 if truth.loss.shape else truth.count
    found: Json = {"loss": _numbers(truth.loss, dtype, case, terms, truth.sizes.get("loss", 0))}
    for name in _gradients(case):
        added = truth.count if name == "weight" else 1
        found[f"{name}Gradient"] = _numbers(
            truth.grads[name], _gradient_dtype(name, case, dtype), case, added, truth.sizes.get(name, 0)
        )
    if truth.outputs:
        found["outputs"] = dict(_outputs(truth, dtype, case))
    if truth.weight_sum is not None:
        found["summary"] = _summary(truth, dtype, case)
    return found


def _outputs(truth: Reference, dtype: str, case: Case) -> Iterator[tuple[str, Json]]:
    for name, values in truth.outputs.items():
        if values.dtype == object:
            yield name, _numbers(values, dtype, case, 1, truth.sizes.get(name, 0))
        else:
            flat = values.astype(np.int64).reshape(-1).tolist()
            yield name, _tensor(values.dtype.name, values.shape, flat, 0, 0)


def _summary(truth: Reference, dtype: str, case: Case) -> Json:
    """Both sums are float64. The losses' is as right as they are: computed in `dtype`."""
    whole, size = full((), truth.loss_sum), truth.sizes.get("loss_sum", 0)
    losses = _numbers(whole, dtype, case, truth.count, size) | {"dtype": "DATA_TYPE_FLOAT64"}
    weights = _numbers(full((), truth.weight_sum), "float64", None, truth.count, 0)
    return {"lossSum": losses, "weightSum": weights, "count": truth.count}


def _numbers(truth: Numbers, dtype: str, case: Case | None, terms: int, size: Number) -> Json:
    """Tolerances: of the whole tensor, or of each entry where the case asks for that."""
    rtol, atol = 0.0, float(allowed(truth, dtype, None, terms, size))
    if case is not None and case.each:
        rtol, atol = EACH, float(ml_dtypes.finfo(dtype).tiny)
    return _tensor(dtype, truth.shape, [_number(v, dtype) for v in truth.reshape(-1)], _rounded_up(atol), rtol)


def _tensor(dtype: str, shape: tuple[int, ...], values: list[Any], atol: float, rtol: float) -> Json:
    return {
        "dtype": f"DATA_TYPE_{dtype.upper()}",
        "shape": [str(length) for length in shape],
        "values": values,
        "atol": atol,
        "rtol": rtol,
    }


def _number(value: Number, dtype: str) -> float | str:
    """What JSON has no number for is a string, as in protobuf's."""
    if mp.isnan(value):
        return "NaN"
    if abs(value) > mp.mpf(float(ml_dtypes.finfo(dtype).max)):
        return "Infinity" if value > 0 else "-Infinity"
    near = float(f"{float(value):.{DIGITS.get(dtype, FEWER_DIGITS)}g}")
    return int(near) if near.is_integer() and abs(near) < 1e6 else near


def _rounded_up(value: float) -> float:
    return float(f"{1.05 * value:.1e}")


def _gradients(case: Case) -> tuple[str, ...]:
    grad = case.options.get("grad", ())
    return ("input",) if grad is True else (grad,) if isinstance(grad, str) else tuple(grad)


def _loss_dtype(case: Case) -> str:
    """float64 where any tensor is, else float32; an activation's values have their input's."""
    if case.method in FUNCTIONS:
        return _own(case.tensors[0])
    tensors = [*case.tensors, *(value for value in case.options.values() if isinstance(value, np.ndarray))]
    return "float64" if any(one.dtype == np.float64 for one in tensors) else "float32"


def _gradient_dtype(name: str, case: Case, loss_dtype: str) -> str:
    if name != "weight":
        return _own(case.tensors[("input", "target").index(name)])
    weight = case.options.get("weight")
    return loss_dtype if weight is None else _own(weight)


def _own(tensor: Array) -> str:
    """The tensor's own dtype, but float32 for 8-bit floats."""
    name: str = tensor.dtype.name
    return "float32" if name in EIGHT_BITS else name
