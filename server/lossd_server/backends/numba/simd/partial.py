"""Parts of vectors: the first lanes of one in memory, and the two halves of one in registers."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from lossd_server.backends.numba.simd.memory import NARROW, address
from lossd_server.backends.numba.simd.operations import halves
from lossd_server.backends.numba.simd.vector import I32, Vec, lanes_of, spread

SHORT_NAMES = {"float": "f32", "double": "f64", "i64": "i64", "i16": "i16", "i8": "i8"}


def first_lanes(builder: Any, count: Any, lanes: int) -> Any:
    """A mask of lanes 0 … count − 1."""
    numbers = ir.Constant(ir.VectorType(I32, lanes), list(range(lanes)))
    return builder.icmp_signed("<", numbers, spread(builder, builder.trunc(count, I32), lanes))


def masked(builder: Any, verb: str, value: ir.VectorType, returned: Any, arguments: list[Any]) -> Any:
    """LLVM's masked load or store of vectors of a type."""
    name = f"llvm.masked.{verb}.v{value.count}{SHORT_NAMES[str(value.element)]}.p0"
    kind = ir.FunctionType(returned, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def load_lanes(builder: Any, at: Any, count: Any, pad: Any, kind: Vec) -> Any:
    """The first `count` lanes of `kind` at an address, `pad` in the others."""
    mask = first_lanes(builder, count, kind.lanes)
    to = address(builder, at, kind.llvm)
    return masked(
        builder, "load", kind.llvm, kind.llvm, [to, ir.Constant(I32, 1), mask, spread(builder, pad, kind.lanes)]
    )


@intrinsic
def load_first(typing: Any, at: Any, count: Any, pad: Any) -> Any:
    """A full vector of `pad`'s type whose first `count` lanes lie at an address; `pad` in the others, which are not
    read.
    """
    kind = lanes_of(pad)
    return kind(at, types.int64, pad), lambda context, builder, sig, args: load_lanes(
        builder, args[0], args[1], args[2], kind
    )


@intrinsic(prefer_literal=True)
def load_first_narrow(typing: Any, at: Any, count: Any, pad: Any, dtype: Any) -> Any:
    """`load_first` from floats of 8 or 16 bits; dtype: which, a literal DataType."""
    kind = lanes_of(pad)

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits, widen = NARROW[dtype.literal_value]
        stored_kind = ir.VectorType(ir.IntType(bits), kind.lanes)
        mask = first_lanes(builder, args[1], kind.lanes)
        to = address(builder, args[0], stored_kind)
        nothing = ir.Constant(stored_kind, [0] * kind.lanes)
        stored = masked(builder, "load", stored_kind, stored_kind, [to, ir.Constant(I32, 1), mask, nothing])
        value = widen(builder, stored)
        if kind.element == "float64":
            value = builder.fpext(value, kind.llvm)
        return builder.select(mask, value, spread(builder, args[2], kind.lanes))

    return kind(at, types.int64, pad, dtype), build


@intrinsic
def load_first_integers(typing: Any, at: Any, count: Any, pad: Any, like: Any) -> Any:
    """As many int64 as a vector of `like`'s type has lanes, the first `count` of them from an address."""
    kind = Vec("int64", lanes_of(like).lanes)
    signature = kind(at, types.int64, types.int64, like)
    return signature, lambda context, builder, sig, args: load_lanes(builder, args[0], args[1], args[2], kind)


@intrinsic
def store_first(typing: Any, at: Any, count: Any, value: Any) -> Any:
    """Stores the first `count` lanes."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        mask = first_lanes(builder, args[1], value.lanes)
        to = address(builder, args[0], value.llvm)
        masked(builder, "store", value.llvm, ir.VoidType(), [args[2], to, ir.Constant(I32, 1), mask])
        return context.get_dummy_value()

    return types.void(at, types.int64, value), build


@intrinsic
def lower_half(typing: Any, a: Any) -> Any:
    """The first half of the lanes."""
    kind = Vec(a.element, a.lanes // 2)
    return kind(a), lambda context, builder, sig, args: halves(builder, args[0])[0]


@intrinsic
def upper_half(typing: Any, a: Any) -> Any:
    """The second half of the lanes."""
    kind = Vec(a.element, a.lanes // 2)
    return kind(a), lambda context, builder, sig, args: halves(builder, args[0])[1]


@intrinsic
def load_half(typing: Any, at: Any, like: Any) -> Any:
    """Half a vector of `like`'s type, 64 bytes, at an address."""
    kind = Vec(like.name, lanes_of(like).lanes // 2)
    return kind(at, like), lambda context, builder, sig, args: builder.load(
        address(builder, args[0], kind.llvm), align=1
    )
