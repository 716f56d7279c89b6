"""Vector loads and stores at raw addresses: numbers of every float dtype as vectors of the compute type.

Blocks go through padded scratch, so that a tail takes the same path as everything else.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.types.misc import CPointer
from numba.extending import intrinsic

from lossd.v1 import tensor_pb2 as pb
from lossd_server.backends.numba.simd.float8 import widen_e4m3fn, widen_e5m2
from lossd_server.backends.numba.simd.half import narrow_bfloat16, narrow_float16, widen_bfloat16, widen_float16
from lossd_server.backends.numba.simd.vector import ELEMENTS, I32, Vec, lanes_of
from lossd_server.jobs.jit import device_function

FLOAT8_E4M3FN, FLOAT8_E5M2 = int(pb.DATA_TYPE_FLOAT8_E4M3FN), int(pb.DATA_TYPE_FLOAT8_E5M2)
FLOAT16, BFLOAT16 = int(pb.DATA_TYPE_FLOAT16), int(pb.DATA_TYPE_BFLOAT16)
FLOAT32, FLOAT64 = int(pb.DATA_TYPE_FLOAT32), int(pb.DATA_TYPE_FLOAT64)


# Of floats narrower than float32: bits, and how they become float32.
NARROW = {
    FLOAT8_E4M3FN: (8, widen_e4m3fn),
    FLOAT8_E5M2: (8, widen_e5m2),
    FLOAT16: (16, widen_float16),
    BFLOAT16: (16, widen_bfloat16),
}


def address(builder: Any, value: Any, kind: Any) -> Any:
    return builder.inttoptr(value, kind.as_pointer())


@intrinsic
def load(typing: Any, at: Any, like: Any) -> Any:
    """The full vector of `like`'s type at an address."""
    kind = lanes_of(like)
    return kind(at, like), lambda context, builder, sig, args: builder.load(
        address(builder, args[0], kind.llvm), align=1
    )


@intrinsic
def load_wide(typing: Any, at: Any, like: Any) -> Any:
    """As many float64 as a vector of `like`'s type has lanes."""
    kind = Vec("float64", lanes_of(like).lanes)
    return kind(at, like), lambda context, builder, sig, args: builder.load(
        address(builder, args[0], kind.llvm), align=1
    )


@intrinsic
def load_apart(typing: Any, at: Any, stride: Any, like: Any) -> Any:
    """A full vector of numbers that lie `stride` bytes apart."""
    kind = lanes_of(like)

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = ir.Constant(kind.llvm, ir.Undefined)
        place = args[0]
        for lane in range(kind.lanes):
            one = builder.load(address(builder, place, args[2].type), align=1)
            value = builder.insert_element(value, one, ir.Constant(I32, lane))
            place = builder.add(place, args[1])
        return value

    return kind(at, stride, like), build


@intrinsic
def store_apart(typing: Any, to: Any, stride: Any, value: Any) -> Any:
    """Stores the lanes `stride` bytes apart."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = args[0]
        for lane in range(value.lanes):
            one = builder.extract_element(args[2], ir.Constant(I32, lane))
            builder.store(one, address(builder, place, one.type), align=1)
            place = builder.add(place, args[1])
        return context.get_dummy_value()

    return types.void(to, stride, value), build


@intrinsic
def prefetch(typing: Any, at: Any) -> Any:
    """Asks for the cache line at an address, which need not be a valid one."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, I32, I32, I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [address(builder, args[0], ir.IntType(8)), *(ir.Constant(I32, n) for n in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(at), build


@intrinsic
def store(typing: Any, at: Any, value: Any) -> Any:
    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[1], address(builder, args[0], args[1].type), align=1)
        return context.get_dummy_value()

    return types.void(at, value), build


@intrinsic
def store_past_cache(typing: Any, at: Any, value: Any) -> Any:
    """A store to a 64-byte aligned address that is not going to be read soon: spares reading the line first."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        written = builder.store(args[1], address(builder, args[0], args[1].type), align=64)
        written.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(I32, 1)]))
        return context.get_dummy_value()

    return types.void(at, value), build


@intrinsic
def cast(typing: Any, value: Any, like: Any) -> Any:
    """A number, rounded to `like`'s type."""
    return like(value, like), lambda context, builder, sig, args: context.cast(builder, args[0], value, like)


@intrinsic
def load_one(typing: Any, at: Any, like: Any) -> Any:
    """The number of `like`'s type at an address."""
    return like(at, like), lambda context, builder, sig, args: builder.load(
        address(builder, args[0], args[1].type), align=1
    )


@intrinsic
def store_one(typing: Any, at: Any, value: Any) -> Any:
    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[1], address(builder, args[0], args[1].type), align=1)
        return context.get_dummy_value()

    return types.void(at, value), build


@intrinsic
def pointer(typing: Any, at: Any, like: Any) -> Any:
    """An address as that of numbers of `like`'s type."""
    return CPointer(like)(at, like), lambda context, builder, sig, args: address(builder, args[0], args[1].type)


@intrinsic
def untyped_pointer(typing: Any, at: Any) -> Any:
    """An address as that of anything: `numba.carray` is told what."""
    return types.voidptr(at), lambda context, builder, sig, args: address(builder, args[0], ir.IntType(8))


@intrinsic
def copy_bytes(typing: Any, to: Any, at: Any, count: Any) -> Any:
    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        byte = ir.IntType(8)
        cgutils.raw_memcpy(builder, address(builder, args[0], byte), address(builder, args[1], byte), args[2], 1)
        return context.get_dummy_value()

    return types.void(to, at, count), build


@intrinsic
def zero_bytes(typing: Any, to: Any, count: Any) -> Any:
    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        cgutils.memset(builder, address(builder, args[0], ir.IntType(8)), args[1], 0)
        return context.get_dummy_value()

    return types.void(to, count), build


@intrinsic
def next_piece(typing: Any, at: Any) -> Any:
    """Takes the next number of a counter that threads share."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        counter = address(builder, args[0], ir.IntType(64))
        return builder.atomic_rmw("add", counter, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(at), build


def load_widened(builder: Any, at: Any, kind: Vec, dtype: int) -> Any:
    """Loads `kind.lanes` elements of `dtype` and makes them floats of `kind`."""
    n = kind.lanes
    if dtype in NARROW:
        bits, widen = NARROW[dtype]
        value = widen(builder, builder.load(address(builder, at, ir.VectorType(ir.IntType(bits), n)), align=1))
        return value if kind.element == "float32" else builder.fpext(value, kind.llvm)
    element = ELEMENTS["float32" if dtype == FLOAT32 else "float64"]
    value = builder.load(address(builder, at, ir.VectorType(element, n)), align=1)
    if value.type == kind.llvm:
        return value
    return builder.fpext(value, kind.llvm) if dtype == FLOAT32 else builder.fptrunc(value, kind.llvm)


def to_storage(builder: Any, value: Any, kind: Vec, dtype: int) -> Any:
    """The stored form of floats of `kind` in `dtype`."""
    single = ir.VectorType(ir.FloatType(), kind.lanes)
    if dtype == FLOAT64:
        return value if kind.element == "float64" else builder.fpext(value, ir.VectorType(ir.DoubleType(), kind.lanes))
    if kind.element == "float64":
        value = builder.fptrunc(value, single)
    if dtype == FLOAT32:
        return value
    return narrow_float16(builder, value) if dtype == FLOAT16 else narrow_bfloat16(builder, value)


@intrinsic(prefer_literal=True)
def load_as(typing: Any, at: Any, like: Any, dtype: Any) -> Any:
    """A full vector of `like`'s type from elements of `dtype`, a literal DataType."""
    kind = lanes_of(like)
    return kind(at, like, dtype), lambda context, builder, sig, args: load_widened(
        builder, args[0], kind, dtype.literal_value
    )


@intrinsic(prefer_literal=True)
def load_one_as(typing: Any, at: Any, like: Any, dtype: Any) -> Any:
    """The number of `dtype`, a literal DataType, at an address, as one of `like`'s type."""
    single = Vec(like.name, 1)

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = load_widened(builder, args[0], single, dtype.literal_value)
        return builder.extract_element(value, ir.Constant(I32, 0))

    return like(at, like, dtype), build


@intrinsic(prefer_literal=True)
def store_as(typing: Any, at: Any, value: Any, dtype: Any) -> Any:
    """Rounds a vector to `dtype`, a literal DataType, and stores it."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        stored = to_storage(builder, args[1], value, dtype.literal_value)
        builder.store(stored, address(builder, args[0], stored.type), align=1)
        return context.get_dummy_value()

    return types.void(at, value, dtype), build


@device_function
def size_of(dtype: int) -> int:
    """Bytes an element."""
    if dtype == FLOAT8_E4M3FN or dtype == FLOAT8_E5M2:
        return 1
    if dtype == FLOAT16 or dtype == BFLOAT16:
        return 2
    return 4 if dtype == FLOAT32 else 8


@device_function
def load_number(at: int, dtype: int, like: Any) -> Any:
    """The number of `dtype` at an address, which is the compute type or narrower."""
    if dtype == BFLOAT16:
        return load_one_as(at, like, BFLOAT16)
    if dtype == FLOAT16:
        return load_one_as(at, like, FLOAT16)
    if dtype == FLOAT8_E4M3FN:
        return load_one_as(at, like, FLOAT8_E4M3FN)
    if dtype == FLOAT8_E5M2:
        return load_one_as(at, like, FLOAT8_E5M2)
    return load_one(at, like)
