"""SIMD vectors in numba: 128 bytes of floats or integers, with the arithmetic written out.

A `Vec` is LLVM's vector type: 32 float32 or 16 float64 lanes (two registers of AVX-512, four of AVX2). Its operators
are single IEEE operations, never reassociated or contracted, so the bits of a result do not depend on layout, aliasing
or instruction set. Every loop over classes or elements in this package is written with them. Addresses are int64;
alignment is not assumed.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model

BYTES = 128
ELEMENTS = {
    "float32": ir.FloatType(),
    "float64": ir.DoubleType(),
    "int8": ir.IntType(8),
    "int16": ir.IntType(16),
    "int32": ir.IntType(32),
    "int64": ir.IntType(64),
}
I32 = ir.IntType(32)


class Vec(types.Type):
    """`lanes` elements, named as numpy names them."""

    def __init__(self, element: str, lanes: int) -> None:
        self.element = element
        self.lanes = lanes
        super().__init__(name=f"Vec({element}, {lanes})")

    @property
    def floating(self) -> bool:
        return self.element.startswith("float")

    @property
    def llvm(self) -> ir.VectorType:
        return ir.VectorType(ELEMENTS[self.element], self.lanes)

    @property
    def scalar(self) -> Any:
        return getattr(types, self.element)


class Mask(types.Type):
    """One truth value a lane."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"Mask({lanes})")


@register_model(Vec)
class VecModel(models.PrimitiveModel):  # type: ignore[misc]  # numba has no types
    def __init__(self, manager: Any, kind: Vec) -> None:
        super().__init__(manager, kind, kind.llvm)


@register_model(Mask)
class MaskModel(models.PrimitiveModel):  # type: ignore[misc]  # numba has no types
    def __init__(self, manager: Any, kind: Mask) -> None:
        super().__init__(manager, kind, ir.VectorType(ir.IntType(1), kind.lanes))


def lanes_of(scalar: Any) -> Vec:
    """The full vector of a scalar float type: 32 float32 or 16 float64."""
    return Vec(scalar.name, BYTES // (scalar.bitwidth // 8))


def spread(builder: Any, value: Any, lanes: int) -> Any:
    """Every lane the same."""
    blank = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    first = builder.insert_element(blank, value, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, blank, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))


def call(builder: Any, name: str, *values: Any) -> Any:
    """An LLVM intrinsic on vectors of one type."""
    kind = values[0].type
    suffix = f"v{kind.count}f{32 if kind.element == ir.FloatType() else 64}"
    function = ir.FunctionType(kind, [kind] * len(values))
    return builder.call(cgutils.get_or_insert_function(builder.module, function, f"llvm.{name}.{suffix}"), values)


ARITHMETIC: dict[Any, tuple[str, str]] = {  # operator -> the builder's method for floats, for integers
    operator.add: ("fadd", "add"),
    operator.sub: ("fsub", "sub"),
    operator.mul: ("fmul", "mul"),
    operator.truediv: ("fdiv", ""),
    operator.and_: ("", "and_"),
    operator.or_: ("", "or_"),
    operator.lshift: ("", "shl"),
    operator.rshift: ("", "lshr"),
}
COMPARISONS: dict[Any, str] = {
    operator.lt: "<",
    operator.le: "<=",
    operator.gt: ">",
    operator.ge: ">=",
    operator.eq: "==",
    operator.ne: "!=",
}


def pair(args: tuple[Any, ...]) -> Vec | None:
    """The vector type of (vector, vector), (vector, number) or (number, vector)."""
    if len(args) != 2:
        return None
    left, right = args
    if isinstance(left, Vec) and (left == right or isinstance(right, types.Number)):
        return left
    return right if isinstance(right, Vec) and isinstance(left, types.Number) else None


def operands(context: Any, builder: Any, sig: Any, args: Any) -> tuple[Vec, Any, Any]:
    """Both operands as vectors; numbers take the vector's element type."""
    kind = pair(sig.args)
    assert kind is not None
    values = [
        value
        if isinstance(given, Vec)
        else spread(builder, context.cast(builder, value, given, kind.scalar), kind.lanes)
        for given, value in zip(sig.args, args, strict=True)
    ]
    return kind, values[0], values[1]


def lower_both(op: Any, implement: Callable[..., Any]) -> None:
    for left, right in ((Vec, Vec), (Vec, types.Number), (types.Number, Vec)):
        lower_builtin(op, left, right)(implement)


def register_arithmetic(op: Any, for_floats: str, for_integers: str) -> None:
    @infer_global(op)
    class Arithmetic(AbstractTemplate):  # type: ignore[misc]  # numba has no types
        def generic(self, args: tuple[Any, ...], kws: Any) -> Any:
            kind = pair(args)
            return kind and signature(kind, *args)

    def implement(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind, left, right = operands(context, builder, sig, args)
        return getattr(builder, for_floats if kind.floating else for_integers)(left, right)

    lower_both(op, implement)


def register_comparison(op: Any, sign: str) -> None:
    @infer_global(op)
    class Comparison(AbstractTemplate):  # type: ignore[misc]  # numba has no types
        def generic(self, args: tuple[Any, ...], kws: Any) -> Any:
            kind = pair(args)
            return kind and signature(Mask(kind.lanes), *args)

    def implement(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind, left, right = operands(context, builder, sig, args)
        if not kind.floating:
            return builder.icmp_signed(sign, left, right)
        # NaN is unequal to everything, itself too, and not ordered.
        return builder.fcmp_unordered(sign, left, right) if sign == "!=" else builder.fcmp_ordered(sign, left, right)

    lower_both(op, implement)


def register_mask(op: Any, method: str) -> None:
    @infer_global(op)
    class Logic(AbstractTemplate):  # type: ignore[misc]  # numba has no types
        def generic(self, args: tuple[Any, ...], kws: Any) -> Any:
            both = len(args) == 2 and isinstance(args[0], Mask) and args[0] == args[1]
            return signature(args[0], *args) if both else None

    @lower_builtin(op, Mask, Mask)
    def implement(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, method)(*args)


for _op, (_floats, _integers) in ARITHMETIC.items():
    register_arithmetic(_op, _floats, _integers)
for _op, _sign in COMPARISONS.items():
    register_comparison(_op, _sign)
register_mask(operator.and_, "and_")
register_mask(operator.or_, "or_")
