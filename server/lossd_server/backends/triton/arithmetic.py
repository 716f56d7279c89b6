"""exp, logarithms, tanh, products and quotients to a few ulp, the same on every device: float32 or float64."""

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
def quotient(a: tl.tensor, b: tl.tensor, COMPUTE: tl.constexpr) -> tl.tensor:
    """a/b, where an a of exactly 0 annihilates 1/b unless b is NaN."""
    a, b = tl.broadcast(a, b)
    return tl.where((a == 0) & (b == b), 0.0, divide(a, b, COMPUTE))


@triton.jit
def exp(x: tl.tensor, COMPUTE: tl.constexpr) -> tl.tensor:
    """eˣ, to 1–2 ulp, 0 for −inf, NaN for NaN.

    float32: 2ⁿ·eʳ with r = x − n·ln 2, ln 2 in two parts of which the first times n is exact (Cody and Waite), since
    the hardware's 2^(x·log₂e) loses 1e-6 to the one product; then a polynomial of degree 7 (Cephes' expf).
    """
    if tl.float32 == COMPUTE:
        x = tl.where(x < -120.0, -120.0, x)
        x = tl.where(x > 120.0, 120.0, x)
        n = tl.floor(x * 1.4426950408889634 + 0.5)
        r = (x - n * 0.693359375) - n * -2.12194440e-4
        s = 1.9875691500e-4
        s = s * r + 1.3981999507e-3
        s = s * r + 8.3334519073e-3
        s = s * r + 4.1665795894e-2
        s = s * r + 1.6666665459e-1
        s = s * r + 5.0000001201e-1
        s = s * (r * r) + r + 1.0
        # Two factors, each a normal number, so that the product may be subnormal or infinite.
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
