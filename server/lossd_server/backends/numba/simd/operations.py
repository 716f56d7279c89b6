"""Vector operations beside the operators: constants in every lane, fused multiply-adds, choices, sums of lanes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from lossd_server.backends.numba.simd.vector import BYTES, I32, Vec, call, lanes_of, operands, spread


@intrinsic
def width(typing: Any, value: Any) -> Any:
    """Bytes of a number's type, known when compiling."""
    return types.int64(value), lambda context, builder, sig, args: ir.Constant(ir.IntType(64), value.bitwidth // 8)


@intrinsic
def splat(typing: Any, value: Any) -> Any:
    """A vector with `value` in every lane."""
    kind = lanes_of(value)
    return kind(value), lambda context, builder, sig, args: spread(builder, args[0], kind.lanes)


@intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a·b + c, rounded once; b and c may be numbers."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, left, right = operands(context, builder, signature(a, a, b), args[:2])
        _, _, addend = operands(context, builder, signature(a, a, c), (args[0], args[2]))
        return call(builder, "fma", left, right, addend)

    return a(a, b, c), build


@intrinsic
def larger(typing: Any, a: Any, b: Any) -> Any:
    """a where a > b, else b: one instruction, and a NaN in `a` is dropped."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, left, right = operands(context, builder, sig, args)
        return builder.select(builder.fcmp_ordered(">", left, right), left, right)

    return a(a, b), build


@intrinsic
def absolute(typing: Any, a: Any) -> Any:
    return a(a), lambda context, builder, sig, args: call(builder, "fabs", args[0])


@intrinsic
def select(typing: Any, mask: Any, a: Any, b: Any) -> Any:
    """a where `mask`, else b; one of the two may be a number."""
    kind = a if isinstance(a, Vec) else b

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, left, right = operands(context, builder, signature(kind, a, b), args[1:])
        return builder.select(args[0], left, right)

    return kind(mask, a, b), build


@intrinsic
def any_of(typing: Any, mask: Any) -> Any:
    """Whether any lane is true."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        word = ir.IntType(mask.lanes)
        return builder.icmp_unsigned("!=", builder.bitcast(args[0], word), ir.Constant(word, 0))

    return types.boolean(mask), build


@intrinsic
def count_of(typing: Any, mask: Any) -> Any:
    """How many lanes are true."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        word = ir.IntType(mask.lanes)
        function = ir.FunctionType(word, [word])
        counted = cgutils.get_or_insert_function(builder.module, function, f"llvm.ctpop.i{mask.lanes}")
        return builder.zext(builder.call(counted, [builder.bitcast(args[0], word)]), ir.IntType(64))

    return types.int64(mask), build


@intrinsic
def bits(typing: Any, a: Any) -> Any:
    """The float's bits as signed integers."""
    kind = Vec(a.element.replace("float", "int"), a.lanes)
    return kind(a), lambda context, builder, sig, args: builder.bitcast(args[0], kind.llvm)


@intrinsic
def floats(typing: Any, a: Any) -> Any:
    """The floats that have these bits."""
    kind = Vec(a.element.replace("int", "float"), a.lanes)
    return kind(a), lambda context, builder, sig, args: builder.bitcast(args[0], kind.llvm)


@intrinsic
def to_float(typing: Any, a: Any) -> Any:
    """Signed integers as floats of their width."""
    kind = Vec(a.element.replace("int", "float"), a.lanes)
    return kind(a), lambda context, builder, sig, args: builder.sitofp(args[0], kind.llvm)


def halves(builder: Any, value: Any) -> tuple[Any, Any]:
    half = value.type.count // 2
    blank = ir.Constant(value.type, ir.Undefined)
    low = ir.Constant(ir.VectorType(I32, half), list(range(half)))
    high = ir.Constant(ir.VectorType(I32, half), list(range(half, 2 * half)))
    return builder.shuffle_vector(value, blank, low), builder.shuffle_vector(value, blank, high)


@intrinsic
def widen_sum(typing: Any, a: Any) -> Any:
    """The vector as 16 float64 lanes: the halves of a float32 vector are added after widening."""
    kind = Vec("float64", BYTES // 8)

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if a == kind:
            return args[0]
        low, high = halves(builder, args[0])
        return builder.fadd(builder.fpext(low, kind.llvm), builder.fpext(high, kind.llvm))

    return kind(a), build


def fold(builder: Any, value: Any, combine: Callable[[Any, Any], Any]) -> Any:
    """A fixed tree: lane i with lane i + half, until one is left."""
    while isinstance(value.type, ir.VectorType) and value.type.count > 1:
        value = combine(*halves(builder, value))
    return builder.extract_element(value, ir.Constant(I32, 0))


@intrinsic
def total(typing: Any, a: Any) -> Any:
    """The sum of the lanes, by a fixed tree."""
    return a.scalar(a), lambda context, builder, sig, args: fold(builder, args[0], builder.fadd)


@intrinsic
def first_lane(typing: Any, a: Any) -> Any:
    """The number in lane 0."""
    return a.scalar(a), lambda context, builder, sig, args: builder.extract_element(args[0], ir.Constant(I32, 0))


@intrinsic
def greatest(typing: Any, a: Any) -> Any:
    """The greatest lane, of lanes without NaN."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return fold(builder, args[0], lambda x, y: builder.select(builder.fcmp_ordered(">", x, y), x, y))

    return a.scalar(a), build


@intrinsic
def to_float64(typing: Any, a: Any) -> Any:
    """The vector in float64, lane for lane."""
    kind = Vec("float64", a.lanes)

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return args[0] if a == kind else builder.fpext(args[0], kind.llvm)

    return kind(a), build


@intrinsic
def rounded(typing: Any, a: Any, like: Any) -> Any:
    """A float64 vector in `like`'s type, lane for lane."""
    kind = Vec(like.name, a.lanes)

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return args[0] if a == kind else builder.fptrunc(args[0], kind.llvm)

    return kind(a, like), build


@intrinsic
def integers_as(typing: Any, a: Any, like: Any) -> Any:
    """Signed integers as floats of `like`'s type, lane for lane."""
    kind = Vec(like.name, a.lanes)
    return kind(a, like), lambda context, builder, sig, args: builder.sitofp(args[0], kind.llvm)


@intrinsic
def lane_numbers(typing: Any, like: Any) -> Any:
    """0, 1, 2 … as floats of `like`'s type."""
    kind = lanes_of(like)
    return kind(like), lambda context, builder, sig, args: ir.Constant(kind.llvm, [float(i) for i in range(kind.lanes)])
