"""exp, log, log1p and products to a few ulp, the same on every device. Device functions, float32 or float64."""

from __future__ import annotations

import triton
import triton.language as tl


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
def exp_of_negative(x: tl.tensor, COMPUTE: tl.constexpr) -> tl.tensor:
    """eˣ for x ≤ 0, to 1–2 ulp, 0 for −inf, NaN for NaN.

    float32: 2ⁿ·eʳ with r = x − n·ln 2, ln 2 in two parts of which the first times n is exact (Cody and Waite), since
    the hardware's 2^(x·log₂e) loses 1e-6 to the one product; then a polynomial of degree 7 (Cephes' expf).
    """
    if tl.float32 == COMPUTE:
        x = tl.where(x < -120.0, -120.0, x)
        n = tl.floor(x * 1.4426950408889634 + 0.5)
        r = (x - n * 0.693359375) - n * -2.12194440e-4
        s = 1.9875691500e-4
        s = s * r + 1.3981999507e-3
        s = s * r + 8.3334519073e-3
        s = s * r + 4.1665795894e-2
        s = s * r + 1.6666665459e-1
        s = s * r + 5.0000001201e-1
        s = s * (r * r) + r + 1.0
        # Two factors, each a normal number, so that the product may be subnormal.
        i = n.to(tl.int32)
        low = i >> 1
        first = ((low + 127) << 23).to(tl.float32, bitcast=True)
        second = ((i - low + 127) << 23).to(tl.float32, bitcast=True)
        return s * first * second
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
