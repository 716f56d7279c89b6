"""The accepted error of semantics: the larger of PyTorch's own error and 4 ulp (8 in float64) of the largest entry."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np

from tests.oracle.exact import INF, ZERO, Number, Numbers, decode, largest, mp

ULPS = {"float64": 8, "float32": 4, "float16": 4, "bfloat16": 4}


def ulp(value: Number, dtype: str) -> Number:
    """The distance from |value| to the next larger number of that dtype; that of its least normal one below it."""
    info: Any = ml_dtypes.finfo(dtype)
    exponent = math.frexp(max(abs(float(value)), float(info.tiny)))[1] - 1
    return mp.ldexp(mp.mpf(1), exponent - int(info.nmant))


def same_class(actual: Number, expected: Number, dtype: str) -> bool:
    """Both NaN, the same infinity (one that the dtype overflows to included), or both finite."""
    if mp.isnan(expected) or mp.isnan(actual):
        return bool(mp.isnan(expected) and mp.isnan(actual))
    limit = mp.mpf(float(ml_dtypes.finfo(dtype).max))
    if abs(actual) == INF:
        return bool(abs(expected) >= limit and (actual > 0) == (expected > 0))
    return bool(abs(expected) != INF)


def allowed(oracle: Numbers, dtype: str, pytorch: Any = None, terms: int = 1, size: Number = 0) -> Number:
    """The accepted absolute error over one tensor of results. pytorch: its results in that dtype, or None.

    terms: how many losses a reduced one is the sum of. Adding them in order in float64, as semantics has it, may cost
    half an ulp of float64 each. size: of the numbers whose differences the results are, where all of those may vanish.
    Never under the least normal number of the computing dtype: kernels may flush what is smaller.
    """
    top = max(largest(oracle.reshape(-1)), mp.mpf(size))
    error = max(ULPS[dtype] * ulp(top, dtype), terms * ulp(top, "float64") / 2)
    if dtype != "float64":
        error = max(error, mp.mpf(float(np.finfo(np.float32).tiny)))
    if pytorch is not None:
        theirs = decode(pytorch).reshape(-1)
        pairs = zip(theirs, oracle.reshape(-1), strict=True)
        error = max([error, *(abs(a - b) for a, b in pairs if mp.isfinite(a) and mp.isfinite(b))])
    return error


def assert_accepted(
    actual: Any,
    oracle: Numbers,
    dtype: str,
    pytorch: Any = None,
    *,
    terms: int = 1,
    size: Number = 0,
    what: str = "result",
) -> float:
    """The largest error, in ulp of the largest entry or `size`; raises AssertionError where it is not accepted.

    actual: an array of that dtype and of the oracle's shape; pytorch, terms and size: see `allowed`.
    """
    actual = np.asarray(actual)
    assert str(actual.dtype) == dtype, f"{what} has dtype {actual.dtype}, not {dtype}"
    assert actual.shape == oracle.shape, f"{what} has shape {actual.shape}, not {oracle.shape}"
    values = decode(actual)
    bound = allowed(oracle, dtype, pytorch, terms, size)
    unit = ulp(max(largest(oracle.reshape(-1)), mp.mpf(size)), dtype)
    worst, where = ZERO, None
    for at in np.ndindex(oracle.shape):
        value, expected = values[at], oracle[at]
        assert same_class(value, expected, dtype), f"{what}{list(at)} is {value}, truly {mp.nstr(expected, 17)}"
        if mp.isfinite(value) and mp.isfinite(expected) and abs(value - expected) > worst:
            worst, where = abs(value - expected), at
    if where is not None and worst > bound:
        raise AssertionError(
            f"{what}{list(where)} is {mp.nstr(values[where], 17)}, truly {mp.nstr(oracle[where], 17)}: "
            f"{mp.nstr(worst / unit, 4)} {dtype} ulp of the largest entry off, {mp.nstr(bound / unit, 4)} accepted"
        )
    return float(worst / unit)


def assert_each(actual: Any, oracle: Numbers, relative: float = 1e-6, what: str = "result") -> None:
    """Entry by entry, for confident rows and offsets: |actual − truth| ≤ relative·|truth|, whatever the others are.

    What the dtype holds only as a subnormal number may be off by the least normal one.
    """
    actual = np.asarray(actual)
    assert actual.shape == oracle.shape, f"{what} has shape {actual.shape}, not {oracle.shape}"
    values, dtype = decode(actual), str(actual.dtype)
    floor = mp.mpf(float(ml_dtypes.finfo(dtype).tiny))
    for at in np.ndindex(oracle.shape):
        value, expected = values[at], oracle[at]
        message = f"{what}{list(at)} is {mp.nstr(value, 17)}, truly {mp.nstr(expected, 17)}"
        assert same_class(value, expected, dtype), message
        if mp.isfinite(value) and mp.isfinite(expected) and abs(expected) >= floor:
            assert abs(value - expected) <= relative * abs(expected), message
        elif mp.isfinite(value):
            assert abs(value - expected) <= floor, message
