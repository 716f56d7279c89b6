"""Logarithms without a division.

x is 2^k·m, and one of eight numbers c is near 1/m, so that r = m·c − 1 is small and ln x = k·ln 2 − ln c + ln(1 + r).
Around 1, c is 1 and nothing cancels. The c are those of 14 bits (16 in float64) near the middle of an eighth whose
logarithm is nearest to a number of the type: to 0.01 ulp. ln(1 + r) is a Chebyshev fit for |r| ≤ 0.0725, made with
mpmath: 0.02 ulp.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from lossd_server.backends.numba.simd.eight_entries import entry_of_eight
from lossd_server.backends.numba.simd.math import constant, integer, polynomial
from lossd_server.backends.numba.simd.operations import any_of, bits, floats, fma, select, to_float
from lossd_server.jobs.jit import device_function, llvm_inlined

INFINITY = float("inf")
Numbers = dict[str, list[float]]
TABLES: dict[str, Numbers] = {
    # c of the eighths of [√½, √2), in steps of the mantissa; and −ln c.
    "reciprocal": {
        "float32": [
            1.35406494140625,
            1.24725341796875,
            1.15594482421875,
            1.08380126953125,
            1.0,
            0.90606689453125,
            0.81341552734375,
            0.73956298828125,
        ],
        "float64": [
            1.353546142578125,
            1.24969482421875,
            1.1588134765625,
            1.080902099609375,
            1.0,
            0.9047393798828125,
            0.8179931640625,
            0.7437286376953125,
        ],
    },
    "log": {
        "float32": [
            -0.30311113595962524,
            -0.2209438681602478,
            -0.1449180394411087,
            -0.08047455549240112,
            0.0,
            0.09864214062690735,
            0.2065131962299347,
            0.3016958236694336,
        ],
        "float64": [
            -0.30272792079376487,
            -0.22289938088203584,
            -0.14739661660250947,
            -0.07779596990216821,
            0.0,
            0.10010835478588778,
            0.2009012993061183,
            0.2960790449612649,
        ],
    },
}


@intrinsic(prefer_literal=True)
def table_entry(typing: Any, index: Any, like: Any, name: Any) -> Any:
    """Entry `index` mod 8 of a table, as floats of `like`'s type."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values = np.array(TABLES[name.literal_value][like.element], like.element)
        integers = values.view(index.element).astype(object).tolist()
        found = entry_of_eight(builder, args[0], [number % (1 << 8 * values.itemsize) for number in integers])
        return builder.bitcast(found, like.llvm)

    return like(index, like, name), build


@intrinsic
def eighth(typing: Any, raised: Any) -> Any:
    """The number of a mantissa's eighth, in the low bits."""
    shift = 20 if raised.element == "int32" else 49

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.lshr(args[0], ir.Constant(raised.llvm, [shift] * raised.lanes))

    return raised(raised), build


@llvm_inlined
def log_of_normal(x: Any, lost: Any) -> Any:
    """ln(x·2^−lost) for normal numbers x > 0."""
    raised = bits(x) + (integer(x, "one") - integer(x, "root_half"))
    k = to_float((raised >> integer(x, "mantissa")) - integer(x, "bias")) - lost
    mantissa = floats((raised & integer(x, "below")) + integer(x, "root_half"))
    index = eighth(raised)
    r = fma(mantissa, table_entry(index, x, "reciprocal"), -1.0)
    tail = fma(r * r, polynomial(r, "log1p"), k * constant(x, "ln2_low"))
    return fma(k, constant(x, "ln2_high"), table_entry(index, x, "log") + (r + tail))


@device_function
def log_of_any(x: Any) -> Any:
    """The same for vectors with numbers that are subnormal, negative, infinite or NaN; 0 is the caller's."""
    small = x < constant(x, "least_normal")
    lost = select(small, constant(x, "scale_up_log2"), x * 0.0)
    value = log_of_normal(select(small, x * constant(x, "scale_up"), x), select(lost == lost, lost, 0.0))
    value = select(x < INFINITY, value, x)  # ∞ and NaN pass through
    return select(x < 0.0, float("nan"), value)


@llvm_inlined
def log(x: Any) -> Any:
    """ln x: −∞ at 0, NaN below. An ulp."""
    stored = bits(x)
    rare = ((stored < bits(constant(x, "least_normal"))) | (stored >= bits(x * 0.0 + INFINITY))) & (x != 0.0)
    value = log_of_any(x) if any_of(rare) else log_of_normal(x, x * 0.0)
    return select(x == 0.0, -INFINITY, value)
