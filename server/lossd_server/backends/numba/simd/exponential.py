"""Exponentials of a row: exp(x − ref) times a number near 1 that the row has in common, without the difference.

With n = round(8·x·log₂e) and r what is left of it, exp(x) = 2^(n/8)·2^(r/8): the second factor is a cubic, the first
one of eight numbers whose exponent is raised by an integer addition. The row's own K = round(8·ref·log₂e) is taken from
n before, in the addition that rounds: exp(x)·2^(−K/8) is exp(x − ref) times `ExpScale.unit`, within 5 % of 1. Nothing
is subtracted from x and so nothing cancels. From |ref| = 2^16 on x − ref itself is taken: there it is exact wherever
exp(x − ref) is not 0.

0.9 ulp in float32. What lies below 2^-127 (2^-1023 in float64) is 0, exactly so at −∞. NaN stays NaN.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from lossd_server.backends.numba.simd.eight_entries import entry_of_eight
from lossd_server.backends.numba.simd.operations import absolute, fma, larger, select
from lossd_server.backends.numba.simd.vector import ELEMENTS, call
from lossd_server.jobs.jit import device_function

FAR = 65536.0  # |ref| from which x − ref is exact, and up to which n is a small integer
FLOATS: dict[str, dict[str, float]] = {
    "float32": {
        "eighths": 11.541560173034668,  # 8·log₂e, and what the type lacks of it
        "eighths_low": 1.5407703929012940e-7,
        "round": 12582912.0,  # 1.5·2^23: adding it leaves the nearest integer in the low bits
        "eighth": 0.086643397569993164,  # ln 2 / 8
        "deepest": -1016.0,  # the n − K whose power of 2 has an exponent of 0, and no mantissa
    },
    "float64": {
        "eighths": 11.541560327111707,
        "eighths_low": 1.6284218992744826e-16,
        "round": 6755399441055744.0,  # 1.5·2^52
        "eighth": 0.086643397569993164,
        "deepest": -8184.0,
    },
}
# (2^(r/8) − 1) / r for |r| ≤ ½; relative errors of 2^(r/8): 0.21 and 0.03 ulp.
SLOPES: dict[str, list[float]] = {
    "float32": [0.08664340178250998, 0.003754025465243456, 0.00010839105832025337],
    "float64": [
        0.086643397569993163677,
        0.0037535391712360832526,
        0.00010840646223598094435,
        2.3481760473592042926e-6,
        4.0690790200313890848e-8,
        5.8763251569166493719e-10,
        7.2734020168766543264e-12,
    ],
}
MANTISSA = {"float32": 23, "float64": 52}


def eighth_powers(element: str) -> list[int]:
    """The bits of 2^(j/8), j = 0 … 7, less those that j itself, and the number that rounds, will add."""
    integer = np.int32 if element == "float32" else np.int64
    shift = MANTISSA[element] - 3
    size = 8 * np.dtype(element).itemsize
    rounding = int(np.array(FLOATS[element]["round"], element).view(integer))
    powers = [int(np.array(2.0 ** (j / 8), element).view(integer)) for j in range(8)]
    return [(power - ((rounding + j) << shift)) % (1 << size) for j, power in enumerate(powers)]


@intrinsic
def power_of_eighths(typing: Any, rounded: Any) -> Any:
    """2^(k/8) for the floats 1.5·2^23 + k (1.5·2^52 in float64); 0 at the deepest k."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        element = rounded.element
        word = ir.VectorType(ELEMENTS[element.replace("float", "int")], rounded.lanes)
        index = builder.bitcast(args[0], word)
        raised = builder.shl(index, ir.Constant(word, [MANTISSA[element] - 3] * rounded.lanes))
        power = builder.add(entry_of_eight(builder, index, eighth_powers(element)), raised)
        return builder.bitcast(power, rounded.llvm)

    return rounded(rounded), build


@intrinsic(prefer_literal=True)
def float_named(typing: Any, like: Any, name: Any) -> Any:
    """A named float in every lane."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return ir.Constant(like.llvm, [FLOATS[like.element][name.literal_value]] * like.lanes)

    return like(like, name), build


@intrinsic
def slope(typing: Any, r: Any) -> Any:
    """(2^(r/8) − 1) / r, by Horner's rule in fused multiply-adds."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        terms = [ir.Constant(r.llvm, [c] * r.lanes) for c in SLOPES[r.element]]
        value = terms[-1]
        for term in reversed(terms[:-1]):
            value = call(builder, "fma", value, args[0], term)
        return value

    return r(r), build


class ExpScale(NamedTuple):
    """What a row's exponentials are relative to: vectors, of one row in all lanes or of a row a lane."""

    shift: Any  # ref where that is far from 0, else 0
    rounding: Any  # the number that rounds, less K
    least: Any  # x − shift below which exponentials are 0
    unit: Any  # what stands for 1: the exponential of ref


@device_function
def power(y: Any, rounding: Any, least: Any) -> Any:
    """exp(y)·2^(−K/8)."""
    y = larger(least, y)  # a NaN stays
    t = fma(y, float_named(y, "eighths"), rounding)
    back = rounding - t
    r = fma(y, float_named(y, "eighths_low"), fma(y, float_named(y, "eighths"), back))
    whole = power_of_eighths(t)
    return fma(whole * r, slope(r), whole)


@device_function
def exp_scale(ref: Any) -> Any:
    """The by of rows whose exponents are relative to `ref`, which is no NaN."""
    near = absolute(ref) < FAR
    shift = select(near, 0.0, ref)
    top = select(near, ref, 0.0)
    middle = float_named(ref, "round")
    k = fma(top, float_named(ref, "eighths"), middle) - middle
    rounding = middle - k
    least = (k + float_named(ref, "deepest")) * float_named(ref, "eighth")
    return ExpScale(shift, rounding, least, power(top, rounding, least))


@device_function
def falling_exp(x: Any) -> Any:
    """exp(x) for x ≤ 0."""
    return power(x, float_named(x, "round"), float_named(x, "deepest") * float_named(x, "eighth"))


@device_function
def near_exp(x: Any, by: ExpScale) -> Any:
    """The same where the shift is 0."""
    return power(x, by.rounding, by.least)


@device_function
def scaled_exp(x: Any, by: ExpScale) -> Any:
    """exp(x − ref)·unit, for x ≤ ref."""
    return power(x - by.shift, by.rounding, by.least)
