"""exp, logarithms, tanh, products and quotients to a few ulp, the same on every device: float32 or float64."""

from __future__ import annotations

import os

import triton
import triton.language as tl

# Triton's interpreter does not fuse a multiply-add, and cuts bfloat16 off instead of rounding.
INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")
LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def times(a: tl.tensor, b: tl.tensor) -> tl.tensor:
    """a·b, where a factor of exactly 0 annihilates the other unless that is NaN."""
    # Broadcast first: Triton's interpreter cannot combine a scalar's comparison with a block's.
    a, b = tl.broadcast(a, b)
    zero = ((a == 0) & (b == b)) | ((b == 0) & (a == a))
    return tl.where(zero, 0.0, a * b)


@triton.jit
def divide(a: tl.tensor, b: tl.tensor, COMPUTE: tl.constexpr) -> tl.tensor:
    """a/b, correctly rounded: float32's `/` is approximate on a GPU."""
    if tl.float32 == COMPUTE:
        return tl.math.div_rn(a, b)
    else:
        return a / b


@triton.jit
def quotient(a: tl.tensor, b: tl.tensor, COMPUTE: tl.constexpr) -> tl.tensor:
    """a/b, where an a of exactly 0 annihilates 1/b unless b is NaN."""
    a, b = tl.broadcast(a, b)
    return tl.where((a == 0) & (b == b), 0.0, divide(a, b, COMPUTE))


@triton.jit
def exp(x: tl.tensor, COMPUTE: tl.constexpr) -> tl.tensor:
    """eˣ, to 2–3 ulp, 0 for −inf, NaN for NaN; float32: as `exp_nonpositive`, 0 below e^−87."""
    if tl.float32 == COMPUTE:
        x = tl.where(x < -200.0, -200.0, x)
        x = tl.where(x > 200.0, 200.0, x)
        h = x * LOG2_E
        power = tl.exp2(h)
        lost = fma(h, tl.full([], -LN_2, tl.float32), x)
        return tl.where(power == float("inf"), power, fma(power, lost, power))
    else:
        return tl.exp(x)


@triton.jit
def log(x: tl.tensor, COMPUTE: tl.constexpr) -> tl.tensor:
    """ln x. Triton links float32's logarithm so that it takes subnormal numbers for 0: they are scaled up first."""
    if tl.float32 == COMPUTE:
        tiny = x < 1.1754943508222875e-38
        return tl.log(tl.where(tiny, x * 8388608.0, x)) - tl.where(tiny, 15.942385152878742, 0.0)
    else:
        return tl.log(x)


@triton.jit
def log1p(y: tl.tensor, COMPUTE: tl.constexpr) -> tl.tensor:
    """ln(1 + y) for −1 ≤ y < inf: ln u·y/(u − 1) with u = 1 + y rounded, in which the rounding's error cancels."""
    u = 1.0 + y
    return tl.where(u == 1.0, y, log(u, COMPUTE) * divide(y, u - 1.0, COMPUTE))


@triton.jit
def tanh(x: tl.tensor, COMPUTE: tl.constexpr) -> tl.tensor:
    """(1 − z)/(1 + z) with z = exp(−2|x|), on the side of x.

    1 − z as (1 − z)/(−ln z)·2|x|, in which z's error cancels, where it is small; else as 1 − 2z/(1 + z).
    """
    y = 2.0 * tl.abs(x)
    z = exp(-y, COMPUTE)
    small = tl.where(z == 1.0, y, divide(1.0 - z, -log(z, COMPUTE), COMPUTE) * y)
    small = divide(small, 1.0 + z, COMPUTE)
    large = 1.0 - divide(2.0 * z, 1.0 + z, COMPUTE)
    size = tl.where(y > 1.0, large, small)
    return tl.where(x < 0, -size, size)


@triton.jit
def tanh_slope(x: tl.tensor, COMPUTE: tl.constexpr) -> tl.tensor:
    """1 − tanh²(x) = 4z/(1 + z)², z = exp(−2|x|)."""
    z = exp(-2.0 * tl.abs(x), COMPUTE)
    return divide(divide(4.0 * z, 1.0 + z, COMPUTE), 1.0 + z, COMPUTE)


@triton.jit
def fma(a: tl.tensor, b: tl.tensor, c: tl.tensor) -> tl.tensor:
    """a·b + c of float32, rounded once."""
    if INTERPRETED:
        return (a.to(tl.float64) * b + c).to(tl.float32)
    else:
        return tl.fma(a, b, c)


@triton.jit
def exp_nonpositive(t: tl.tensor) -> tl.tensor:
    """eᵗ of float32 t ≤ 0, −inf or NaN: the hardware's 2^h, h = t·log₂e rounded, times 1 + (t − h·ln 2).

    What h lost comes back by a fused multiply-add, so the error is the hardware's 2 ulp and 2e-9·|t|, where h alone
    would be off by 6e-8·|t|: six operations. Below e^−87 it is 0.
    """
    t = tl.maximum(t, -200.0, propagate_nan=tl.PropagateNan.ALL)  # −inf − −inf would be NaN below
    h = t * LOG2_E
    lost = fma(h, tl.full([], -LN_2, tl.float32), t)
    power = tl.exp2(h)
    return fma(power, lost, power)


@triton.jit
def reciprocal(d: tl.tensor) -> tl.tensor:
    """1/d of float32 1 ≤ d < 2¹²⁶ to half an ulp and a little: the hardware's, corrected once."""
    if INTERPRETED:
        return 1.0 / d
    else:
        r = tl.inline_asm_elementwise("rcp.approx.ftz.f32 $0, $1;", "=f,f", [d], dtype=tl.float32, is_pure=True, pack=1)
        return tl.fma(r, tl.fma(-d, r, 1.0), r)


@triton.jit
def log_of_sum(rest: tl.tensor, inverse: tl.tensor) -> tl.tensor:
    """ln(1 + rest) of float32 rest ≥ 0, given about 1/(1 + rest): ln d, and what d lost of `rest` over d."""
    d = 1.0 + rest
    lost = rest - (d - 1.0)  # exact
    return fma(lost, inverse, tl.log(d))


@triton.jit
def round_to(value: tl.tensor, DTYPE: tl.constexpr) -> tl.tensor:
    """float32 to DTYPE, to nearest even: by hand where the interpreter would cut off."""
    if INTERPRETED and tl.bfloat16 == DTYPE:
        bits = value.to(tl.uint32, bitcast=True)
        half = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return tl.where(value != value, 0x7FC0, half).to(tl.uint16).to(tl.bfloat16, bitcast=True)
    else:
        return value.to(DTYPE)
