"""8-bit floats, as vectors of float32: OCP 8-bit Floating Point Specification, revision 1.0.

By way of float16, which holds every one of their values.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from lossd_server.backends.numba.simd.half import constant_vector, widen_float16


def widen_e5m2(builder: Any, stored: Any) -> Any:
    """float8_e5m2 is the upper half of a float16."""
    n = stored.type.count
    wide = builder.zext(stored, ir.VectorType(ir.IntType(16), n))
    return widen_float16(builder, builder.shl(wide, constant_vector(builder, n, 16, 8)))


def widen_e4m3fn(builder: Any, stored: Any) -> Any:
    """float8_e4m3fn has a bias of 7 and no infinity: in the place of a float16's bits, whose bias is 15, it is the
    number divided by 256, subnormals too, and NaN (all ones but for the sign) a finite one.
    """
    n = stored.type.count
    wide = ir.VectorType(ir.IntType(16), n)
    # Its sign is in both upper bits then, of which the lower one is the exponent's.
    shifted = builder.shl(builder.sext(stored, wide), constant_vector(builder, n, 16, 7))
    bits = builder.and_(shifted, constant_vector(builder, n, 16, 0xBF80))
    ones = constant_vector(builder, n, 16, 0x3F80)
    nan = builder.sext(builder.icmp_unsigned("==", builder.and_(bits, ones), ones), wide)
    value = widen_float16(builder, builder.or_(bits, nan))
    return builder.fmul(value, ir.Constant(value.type, [256.0] * n))
