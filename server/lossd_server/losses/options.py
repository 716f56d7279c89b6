"""Options that several losses share: read, held to their bounds, and named when they are wrong."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite, log
from typing import Any, TypeVar

from google.protobuf.message import Message

from lossd.v1 import loss_pb2 as pb
from lossd_server.array import Array
from lossd_server.errors import InvalidRequest, NotServed
from lossd_server.job import Reducing, Reduction
from lossd_server.losses.operands import Fields
from lossd_server.losses.shapes import require
from lossd_server.widening import FLOAT64, widen

Chosen = TypeVar("Chosen")

# What every loss takes.
COMMON = frozenset({"input", "reduction", "gradients", "grad_output", "normalizer", "empty_mean"})
REDUCTIONS: dict[int, Reduction] = {
    pb.REDUCTION_UNSPECIFIED: Reduction.MEAN,
    pb.REDUCTION_NONE: Reduction.NONE,
    pb.REDUCTION_MEAN: Reduction.MEAN,
    pb.REDUCTION_SUM: Reduction.SUM,
}
EMPTY_MEAN_ZERO: dict[int, bool] = {
    pb.EMPTY_MEAN_UNSPECIFIED: False,
    pb.EMPTY_MEAN_NAN: False,
    pb.EMPTY_MEAN_ZERO: True,
}
GRADIENTS = (pb.GRADIENT_INPUT, pb.GRADIENT_TARGET)
MAX_GRADIENTS = 8


def set_fields(rpc: str, request: Message, served: frozenset[str]) -> Fields:
    """The fields that are set, by name. One that this server does not serve yet is refused, never ignored."""
    fields = {descriptor.name: value for descriptor, value in request.ListFields()}
    for name in fields:
        if name not in served:
            raise not_served(rpc, name, name)
    return fields


def not_served(rpc: str, field: str, option: str) -> NotServed:
    """`option` is the field, or the field and its value: "kind = KIND_COUNTS"."""
    return NotServed(
        f"{option} is not served yet by this server's {rpc}",
        reason="NOT_SERVED",
        field=field,
        metadata={"rpc": rpc, "option": option},
    )


def choice(
    rpc: str, fields: Fields, field: str, enum: Any, taken: Mapping[int, Chosen], later: tuple[int, ...] = ()
) -> Chosen:
    """What the enum value of `field` stands for. later: values that the contract has and this server not yet."""
    value: int = fields.get(field, 0)
    if value in taken:
        return taken[value]
    name = _name(enum, value, field)
    if value in later:
        raise not_served(rpc, field, f"{field} = {name}")
    names = ", ".join(enum.Name(number) for number in taken if number)
    raise InvalidRequest(
        f"{field} = {name} is not taken by {rpc}: {names}",
        reason="OPTION_NOT_TAKEN",
        field=field,
        metadata={"value": name, "rpc": rpc, "taken": names},
    )


def gradients(rpc: str, fields: Fields, none: Mapping[int, str]) -> frozenset[int]:
    """The gradients that are asked for. none: those that do not exist here, and why."""
    asked = fields.get("gradients", ())
    if len(asked) > MAX_GRADIENTS:
        raise InvalidRequest(
            f"gradients has {len(asked)} entries, at most {MAX_GRADIENTS} are taken",
            reason="OPTION_OUT_OF_RANGE",
            field="gradients",
            metadata={"value": len(asked), "bound": MAX_GRADIENTS},
        )
    for position, value in enumerate(asked):
        if value in GRADIENTS and value not in none:
            continue
        if value == pb.GRADIENT_UNSPECIFIED:
            raise _unknown("Gradient", value, f"gradients[{position}]")
        name = _name(pb.Gradient, value, f"gradients[{position}]")
        if value not in none:
            raise not_served(rpc, "gradients", name)
        raise InvalidRequest(
            f"gradients asks for {name}, but {none[value]}",
            reason="GRADIENT_NOT_TAKEN",
            field="gradients",
            metadata={"value": name, "because": none[value]},
        )
    return frozenset(asked)


def number(fields: Fields, field: str, default: float, bound: str, *, low: float, high: float, open_low: bool) -> float:
    """A finite number in [low, high], or in (low, high] where `open_low`. `bound` is how the sentence puts it."""
    value: float = fields.get(field, default)
    if isfinite(value) and (low < value if open_low else low <= value) and value <= high:
        return value
    raise out_of_range(field, value, bound)


def out_of_range(field: str, value: float, bound: str) -> InvalidRequest:
    return InvalidRequest(
        f"{field} = {value} is outside {bound}",
        reason="OPTION_OUT_OF_RANGE",
        field=field,
        metadata={"value": value, "bound": bound},
    )


def per_nat(fields: Fields) -> float:
    """1 / ln(base): 1 where the base is e."""
    if "base" not in fields:
        return 1.0
    bound = "(0, inf) without 1"
    base = number(fields, "base", 0.0, bound, low=0.0, high=float("inf"), open_low=True)
    if base == 1.0:
        raise out_of_range("base", base, bound)
    return 1.0 / log(base)


def reducing(
    rpc: str, fields: Fields, per_nat: float, grad_output: Array | None, loss_shape: tuple[int, ...]
) -> Reducing:
    """How losses of `loss_shape` become the answer, with a scalar loss's upstream gradient as a number."""
    reduction = choice(rpc, fields, "reduction", pb.Reduction, REDUCTIONS)
    normalizer = None
    if "normalizer" in fields:
        if reduction is not Reduction.MEAN:
            raise InvalidRequest(
                f"normalizer is given with reduction {reduction.name}, but only a mean has a denominator",
                reason="OPTION_NOT_TAKEN",
                field="normalizer",
                metadata={"value": fields["normalizer"], "reduction": reduction.name},
            )
        normalizer = number(fields, "normalizer", 0.0, "(0, inf)", low=0.0, high=float("inf"), open_low=True)
    upstream = 1.0
    if grad_output is not None:
        shape = loss_shape if reduction is Reduction.NONE else ()
        require(grad_output.shape, shape, "grad_output", f"a loss of reduction {reduction.name}")
        if reduction is not Reduction.NONE:
            upstream = float(widen(grad_output.values, grad_output.dtype, FLOAT64)[0])
    return Reducing(
        reduction=reduction,
        normalizer=normalizer,
        empty_mean_zero=choice(rpc, fields, "empty_mean", pb.EmptyMean, EMPTY_MEAN_ZERO),
        per_nat=per_nat,
        upstream=upstream,
    )


def _name(enum: Any, value: int, field: str) -> str:
    if value not in enum.values():
        raise _unknown(enum.DESCRIPTOR.name, value, field)
    return str(enum.Name(value))


def _unknown(enum: str, value: int, field: str) -> InvalidRequest:
    return InvalidRequest(
        f"{field} = {value} is no {enum}",
        reason="UNKNOWN_ENUM",
        field=field.partition("[")[0],
        metadata={"value": value, "enum": enum},
    )
