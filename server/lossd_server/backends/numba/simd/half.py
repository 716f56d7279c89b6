"""float16 and bfloat16, which numba has not: their bits as vectors of float32 and back, to nearest even, NaN kept NaN.

By the processor's instructions where it has them (F16C), else by integer arithmetic: LLVM's own way to convert float16
without them calls a function for each number, which not every process has.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from lossd_server.backends.numba.simd.vector import I32
from lossd_server.jobs.jit import target_has


def constant_vector(builder: Any, lanes: int, bits: int, value: int) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(bits), lanes), [value] * lanes)


def widen_float16(builder: Any, stored: Any) -> Any:
    """float16 bits to float32. Without an instruction for it, the exponent is moved by a multiplication, which also
    normalises subnormals.
    """
    n = stored.type.count
    if target_has("f16c"):
        return builder.fpext(builder.bitcast(stored, ir.VectorType(ir.HalfType(), n)), ir.VectorType(ir.FloatType(), n))
    wide = builder.zext(stored, ir.VectorType(I32, n))
    sign = builder.shl(builder.and_(wide, constant_vector(builder, n, 32, 0x8000)), constant_vector(builder, n, 32, 16))
    magnitude = builder.shl(
        builder.and_(wide, constant_vector(builder, n, 32, 0x7FFF)), constant_vector(builder, n, 32, 13)
    )
    f32 = ir.VectorType(ir.FloatType(), n)
    scaled = builder.fmul(builder.bitcast(magnitude, f32), ir.Constant(f32, [2.0**112] * n))
    finite = builder.bitcast(scaled, magnitude.type)
    special = builder.icmp_unsigned(">=", magnitude, constant_vector(builder, n, 32, 0x0F800000))
    value = builder.select(special, builder.or_(magnitude, constant_vector(builder, n, 32, 0x7F800000)), finite)
    return builder.bitcast(builder.or_(value, sign), f32)


def widen_bfloat16(builder: Any, stored: Any) -> Any:
    n = stored.type.count
    wide = builder.shl(builder.zext(stored, ir.VectorType(I32, n)), constant_vector(builder, n, 32, 16))
    return builder.bitcast(wide, ir.VectorType(ir.FloatType(), n))


def narrow_bfloat16(builder: Any, value: Any) -> Any:
    """float32 to bfloat16 bits, to nearest even; NaN stays NaN."""
    n = value.type.count
    word = builder.bitcast(value, ir.VectorType(I32, n))
    odd = builder.and_(builder.lshr(word, constant_vector(builder, n, 32, 16)), constant_vector(builder, n, 32, 1))
    rounded = builder.add(builder.add(word, constant_vector(builder, n, 32, 0x7FFF)), odd)
    nan = builder.fcmp_unordered("uno", value, value)
    chosen = builder.select(nan, builder.or_(word, constant_vector(builder, n, 32, 0x00400000)), rounded)
    return builder.trunc(builder.lshr(chosen, constant_vector(builder, n, 32, 16)), ir.VectorType(ir.IntType(16), n))


def narrow_float16(builder: Any, value: Any) -> Any:
    """float32 to float16 bits, to nearest even. Without an instruction for it, subnormals are rounded by adding ½ in
    float32.
    """
    n = value.type.count
    if target_has("f16c"):
        half = builder.fptrunc(value, ir.VectorType(ir.HalfType(), n))
        return builder.bitcast(half, ir.VectorType(ir.IntType(16), n))
    f32, i32 = value.type, ir.VectorType(I32, n)
    word = builder.bitcast(value, i32)
    sign = builder.and_(
        builder.lshr(word, constant_vector(builder, n, 32, 16)), constant_vector(builder, n, 32, 0x8000)
    )
    magnitude = builder.and_(word, constant_vector(builder, n, 32, 0x7FFFFFFF))
    shifted = builder.fadd(builder.bitcast(magnitude, f32), ir.Constant(f32, [0.5] * n))
    subnormal = builder.sub(builder.bitcast(shifted, i32), constant_vector(builder, n, 32, 0x3F000000))
    odd = builder.and_(builder.lshr(magnitude, constant_vector(builder, n, 32, 13)), constant_vector(builder, n, 32, 1))
    rounded = builder.add(builder.add(magnitude, constant_vector(builder, n, 32, 0xC8000FFF)), odd)
    normal = builder.lshr(rounded, constant_vector(builder, n, 32, 13))
    is_small = builder.icmp_unsigned("<", magnitude, constant_vector(builder, n, 32, 0x38800000))
    is_large = builder.icmp_unsigned(">=", magnitude, constant_vector(builder, n, 32, 0x47800000))
    is_nan = builder.icmp_unsigned(">", magnitude, constant_vector(builder, n, 32, 0x7F800000))
    half = builder.select(is_small, subnormal, normal)
    large = builder.select(is_nan, constant_vector(builder, n, 32, 0x7E00), constant_vector(builder, n, 32, 0x7C00))
    chosen = builder.or_(builder.select(is_large, large, half), sign)
    return builder.trunc(chosen, ir.VectorType(ir.IntType(16), n))
