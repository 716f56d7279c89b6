"""Stored numbers as exact 50-digit ones, and the arithmetic that the losses share: the zero rule, logarithms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt

Number = Any  # an mpmath mpf; mpmath has no types
Numbers = npt.NDArray[np.object_]  # of Number

mp = mpmath.MPContext()
mp.dps = 50

ZERO: Number = mp.mpf(0)
ONE: Number = mp.mpf(1)
INF: Number = mp.inf
NAN: Number = mp.nan


def decode(values: Any) -> Numbers:
    """Every element's exact value: float16, bfloat16 (ml_dtypes), float32, float64, bool and integers."""
    array = np.asarray(values)
    wide = array.astype(np.int64) if array.dtype.kind in "biu" else array.astype(np.float64)  # both hold it exactly
    out = np.empty(array.shape, dtype=object)
    out.reshape(-1)[:] = [mp.mpf(value) for value in wide.reshape(-1).tolist()]
    return out


def full(shape: tuple[int, ...], value: Number) -> Numbers:
    """An array of one number."""
    out = np.empty(shape, dtype=object)
    out.fill(value)
    return out


def times(*factors: Number) -> Number:
    """The product in which a factor of exactly 0 annihilates the others, infinite ones too; NaN stays NaN."""
    if any(mp.isnan(factor) for factor in factors):
        return NAN
    if any(factor == 0 for factor in factors):
        return ZERO
    product = ONE
    for factor in factors:
        product = product * factor
    return product


def total(terms: Any) -> Number:
    """The sum, in 50 digits; ∞ − ∞ is NaN."""
    result = ZERO
    for term in terms:
        result = result + term
    return result


def log(a: Number) -> Number:
    """ln a: −∞ at 0, NaN below."""
    if mp.isnan(a) or a < 0:
        return NAN
    return -INF if a == 0 else mp.log(a)


def log1p(a: Number) -> Number:
    """ln(1 + a): −∞ at −1, NaN below."""
    if mp.isnan(a) or a < -1:
        return NAN
    return -INF if a == -1 else mp.log1p(a)


def largest(numbers: Iterable[Number]) -> Number:
    """The greatest finite magnitude; 0 where there is none."""
    return max((abs(v) for v in numbers if mp.isfinite(v)), default=ZERO)
