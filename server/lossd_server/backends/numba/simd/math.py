"""Elementary functions of vectors: exp, log, log1p and tanh to about 1 ulp, with every rounding written out.

Range reduction is Cody and Waite's (ln 2 in two parts). The polynomials are Chebyshev fits made with mpmath; their
relative errors are below 0.15 ulp of the type. log follows the classical reduction to [√½, √2) with s = f/(2 + f) and
log(1 + f) = 2s + s·R(s²). Results below 2^-125 (2^-1021 in float64) are flushed to 0.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from lossd_server.backends.numba.simd.operations import absolute, bits, floats, fma, select, to_float
from lossd_server.backends.numba.simd.vector import Vec, call
from lossd_server.jobs.jit import device_function

FLOATS: dict[str, dict[str, float]] = {
    "float32": {
        "log2e": 1.4426950408889634,
        "round": 12582912.0,  # 1.5·2^23: adding it leaves the nearest integer in the low bits
        "ln2_high": 0.693145751953125,
        "ln2_low": 1.4286068203094172e-6,
        "exp_least": -86.6,
        "exp_most": 88.72283,
        "least_normal": 1.17549435e-38,
        "scale_up": 33554432.0,  # 2^25
        "scale_up_log2": 25.0,
        "tanh_is_argument": 2.0**-13,  # z²/3 is under a quarter of an ulp
    },
    "float64": {
        "log2e": 1.4426950408889634,
        "round": 6755399441055744.0,  # 1.5·2^52
        "ln2_high": 0.6931471803691238,
        "ln2_low": 1.9082149292705878e-10,
        "exp_least": -707.7,
        "exp_most": 709.782712893384,
        "least_normal": 2.2250738585072014e-308,
        "scale_up": 18014398509481984.0,  # 2^54
        "scale_up_log2": 54.0,
        "tanh_is_argument": 2.0**-28,
    },
}
INTEGERS: dict[str, dict[str, int]] = {
    "float32": {"mantissa": 23, "one": 0x3F800000, "root_half": 0x3F3504F3, "below": 0x007FFFFF, "bias": 127},
    "float64": {
        "mantissa": 52,
        "one": 0x3FF0000000000000,
        "root_half": 0x3FE6A09E667F3BCD,
        "below": 0x000FFFFFFFFFFFFF,
        "bias": 1023,
    },
}
POLYNOMIALS: dict[str, dict[str, list[float]]] = {
    "float32": {
        "exp": [0.5, 0.16666576845976, 0.04166655443768594, 0.008363203, 0.00139262134663],
        "log": [0.66666685095429069, 0.39988757716604847, 0.29580985929974422],
        "log1p": [
            -0.5,
            0.3333320915699005,
            -0.24999891221523285,
            0.20094247162342072,
            -0.16749142110347748,
        ],  # (ln(1 + r) − r) / r² for |r| ≤ 0.0725
        "tanh": [-0.33333317216921687, 0.13328689912035325, -0.051973005357985198],
        "atanh": [
            0.33333333660263706234,
            0.19999853165964858701,
            0.14296178997151418861,
            0.10853287900440186323,
            0.11612164612011674416,
        ],
    },
    "float64": {
        "exp": [
            0.50000000000000010262,
            0.16666666666666667456,
            0.041666666666623991516,
            0.0083333333333300513464,
            0.0013888888917281793308,
            0.00019841269863105968748,
            0.000024801521190217727651,
            2.7557268378684192873e-6,
            2.7620138719733995569e-7,
            2.5100424157005066788e-8,
        ],
        "log": [
            0.66666666666666697077,
            0.39999999999898890514,
            0.28571428626253837606,
            0.22222211089379496214,
            0.18182892432536871201,
            0.15331611722055007885,
            0.14617807153417324964,
        ],
        "log1p": [
            -0.5,
            0.3333333333333367,
            -0.2500000000000031,
            0.1999999999872287,
            -0.1666666666548062,
            0.14285715645569586,
            -0.12500001262865312,
            0.11110520466610073,
            -0.09999451488691972,
            0.09202991306657046,
            -0.08437417684825975,
        ],
        "tanh": [
            -0.33333333333333308588,
            0.13333333333294560698,
            -0.053968253868963690106,
            0.021869478988640339568,
            -0.0088627974763828955118,
            0.0035817718262982391955,
            -0.0013333127470637830668,
        ],
        "atanh": [
            0.33333333333333329281,
            0.20000000000007291337,
            0.14285714283554378581,
            0.11111111358713931495,
            0.090908947180664290846,
            0.076927850324793115517,
            0.066570721048274680752,
            0.060005364047953562676,
            0.044003692430723369411,
            0.080820228059717661105,
        ],
    },
}


@intrinsic(prefer_literal=True)
def constant(typing: Any, like: Any, name: Any) -> Any:
    """A named float in every lane."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return ir.Constant(like.llvm, [FLOATS[like.element][name.literal_value]] * like.lanes)

    return like(like, name), build


@intrinsic(prefer_literal=True)
def integer(typing: Any, like: Any, name: Any) -> Any:
    """A named integer, of the float's width, in every lane."""
    kind = Vec(like.element.replace("float", "int"), like.lanes)

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return ir.Constant(kind.llvm, [INTEGERS[like.element][name.literal_value]] * kind.lanes)

    return kind(like, name), build


@intrinsic(prefer_literal=True)
def polynomial(typing: Any, x: Any, name: Any) -> Any:
    """c0 + c1·x + …, by Horner's rule in fused multiply-adds."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        terms = [ir.Constant(x.llvm, [c] * x.lanes) for c in POLYNOMIALS[x.element][name.literal_value]]
        value = terms[-1]
        for term in reversed(terms[:-1]):
            value = call(builder, "fma", value, args[0], term)
        return value

    return x(x, name), build


@device_function
def exp_of_sum(high: Any, low: Any) -> Any:
    """exp(high + low) for |low| much smaller than high, high ≤ 0 or NaN."""
    shifted = fma(high, constant(high, "log2e"), constant(high, "round"))
    k = shifted - constant(high, "round")
    r = fma(k, constant(high, "ln2_high") * -1.0, high)
    r = fma(k, constant(high, "ln2_low") * -1.0, r) + low
    p = fma(r * r, polynomial(r, "exp"), r) + 1.0
    scale = floats((bits(shifted) << integer(high, "mantissa")) + integer(high, "one"))
    return select(high < constant(high, "exp_least"), 0.0, p * scale)


@device_function
def log_with(x: Any, correction: Any) -> Any:
    """ln x + correction, for a correction below an ulp of 1."""
    small = x < constant(x, "least_normal")
    normal = select(small, x * constant(x, "scale_up"), x)
    raised = bits(normal) + (integer(x, "one") - integer(x, "root_half"))
    exponent = to_float((raised >> integer(x, "mantissa")) - integer(x, "bias"))
    k = select(small, exponent - constant(x, "scale_up_log2"), exponent)
    f = floats((raised & integer(x, "below")) + integer(x, "root_half")) - 1.0
    s = f / (f + 2.0)
    z = s * s
    half_square = f * f * 0.5
    inner = fma(s, fma(z, polynomial(z, "log"), half_square), fma(k, constant(x, "ln2_low"), correction))
    value = fma(k, constant(x, "ln2_high"), f - (half_square - inner))
    value = select(x == 0.0, -float("inf"), value)
    # ∞ and NaN pass through; a negative number has no logarithm.
    value = select(x < float("inf"), value, x)
    return select(x < 0.0, float("nan"), value)


@device_function
def log1p(y: Any) -> Any:
    """ln(1 + y) for −1 ≤ y ≤ 1: the rounding of 1 + y is put back."""
    u = y + 1.0
    lost = y - (u - 1.0)
    return log_with(u, select(u == 0.0, 0.0, lost / u))


@device_function
def log1p_of_share(y: Any) -> Any:
    """ln(1 + y) for 0 ≤ y ≤ 1 as 2·atanh(y / (2 + y)): s ≤ ⅓, and (atanh s − s) / s³ is a polynomial of s²."""
    s = y / (y + 2.0)
    z = s * s
    double = s + s
    return fma(double * z, polynomial(z, "atanh"), double)


@device_function
def log1p_any(y: Any) -> Any:
    """ln(1 + y) for y ≥ −1, however large."""
    u = y + 1.0
    lost = select(y > 1.0, 1.0 - (u - y), y - (u - 1.0))
    return log_with(u, select(u < float("inf"), lost / u, 0.0))


@device_function
def exp(x: Any) -> Any:
    """exp(x) of any sign."""
    small = exp_of_sum(absolute(x) * -1.0, 0.0)
    return select(x > 0.0, 1.0 / small, small)


@device_function
def log_ratio(a: Any, b: Any, b_low: Any, far: Any) -> Any:
    """ln(a / (b + b_low)) with the rounding of the quotient put back, so that nothing cancels near 1; `far`, the
    difference of the logarithms, for quotients that are out of reach.
    """
    ratio = a / b
    near = (a > 0.0) & (ratio > 1e-30) & (ratio < 1e30)
    lost = (fma(ratio * -1.0, b, a) - ratio * b_low) / a
    return select(near, log_with(ratio, lost), far)


@device_function
def capped_and_slope(x: Any, k: Any) -> tuple[Any, Any]:
    """(k·tanh(x / k), 1 − tanh²): with E = exp(−2|x / k|), −k·expm1(−2|x / k|) / (1 + E) and 4·E / (1 + E)².

    Where tanh rounds to its argument it is x itself: x / k of a large cap would be a subnormal number, or 0.
    """
    z = x / k
    lost = fma(z * -1.0, k, x) / k  # what z lacks of the quotient
    back = select(z < 0.0, lost, lost * -1.0)
    back = select(absolute(z) < float("inf"), back, 0.0)
    e = exp_of_sum(absolute(z) * -2.0, back + back)
    # tanh z = z − z³/3 + …: below ¼ a series, where 1 − E would cancel.
    y = z * z
    series = fma(z * y, polynomial(y, "tanh"), z)
    large = (1.0 - e) / (1.0 + e)
    large = select(z < 0.0, large * -1.0, large)
    capped = select(absolute(z) < 0.25, series, large) * k
    capped = select(absolute(z) < constant(x, "tanh_is_argument"), x, capped)
    return capped, 4.0 * e / ((1.0 + e) * (1.0 + e))


@device_function
def times(a: Any, b: Any) -> Any:
    """a·b by the rule for zeros: a = 0 annihilates an infinite b."""
    return a * select((a == 0.0) & (b == b), 0.0, b)


@device_function
def summand(a: Any, b: Any) -> Any:
    """`product` for a sum beside which a NaN is found by others: at the cost of `times`."""
    return select((a == 0.0) | (b == 0.0), 0.0, a * b)


@device_function
def product(a: Any, b: Any) -> Any:
    """a·b by the same rule from both sides: only 0·∞ is NaN of two numbers."""
    whole = a * b
    return select((whole != whole) & (a == a) & (b == b), 0.0, whole)
