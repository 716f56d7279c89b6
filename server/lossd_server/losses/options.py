"""Options that several losses share: read, held to their bounds, and named when they are wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite, log
from typing import Any, TypeVar

import numpy as np

from lossd.contract import value_names
from lossd.v1 import loss_pb2 as pb
from lossd_server.errors import InvalidRequest
from lossd_server.jobs.job import Kind, Reducing, Reduction
from lossd_server.losses.shapes import mismatch
from lossd_server.tensors.array import Array
from lossd_server.tensors.dtypes import FLOAT64, widen
from lossd_server.tensors.request_fields import Fields

Chosen = TypeVar("Chosen")

KINDS: dict[int, Kind] = {
    pb.KIND_LOGITS: Kind.LOGITS,
    pb.KIND_LOG_PROBABILITIES: Kind.LOG_PROBABILITIES,
    pb.KIND_PROBABILITIES: Kind.PROBABILITIES,
    pb.KIND_COUNTS: Kind.COUNTS,
}
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
GRADIENTS = (pb.GRADIENT_INPUT, pb.GRADIENT_TARGET, pb.GRADIENT_WEIGHT)
# The least normal number of float32, and its greatest.
LEAST_FLOAT32, MOST_FLOAT32 = (float(bound) for bound in (np.finfo(np.float32).tiny, np.finfo(np.float32).max))
# Entries of a repeated option: more than there are values.
MAX_REPEATED = 8


def choice(rpc: str, fields: Fields, field: str, enum: Any, taken: Mapping[int, Chosen]) -> Chosen:
    """What the enum value of `field` stands for."""
    value: int = fields.get(field, 0)
    if value in taken:
        return taken[value]
    name = name_of(enum, value, field)
    words = value_names(enum.DESCRIPTOR)
    names = ", ".join(words[number] for number in taken if number)
    raise InvalidRequest(
        f"{field} = {name} is not taken by {rpc}, which takes {names}",
        reason="OPTION_NOT_TAKEN",
        field=field,
        metadata={"value": name, "rpc": rpc, "taken": names},
    )


def gradients(fields: Fields, none: Mapping[int, str]) -> Sequence[int]:
    """The gradients that are asked for. none: those that do not exist here, and why."""
    asked = repeated(fields, "gradients")
    for position, value in enumerate(asked):
        if value in GRADIENTS and value not in none:
            continue
        name = name_of(pb.Gradient, value, f"gradients[{position}]")
        raise InvalidRequest(
            f"the gradient of {name} is asked for, but {none[value]}",
            reason="GRADIENT_NOT_TAKEN",
            field="gradients",
            metadata={"value": name, "because": none[value]},
        )
    return asked


def repeated(fields: Fields, field: str) -> Sequence[int]:
    """The entries of a repeated option, few enough to be looked at."""
    asked: Sequence[int] = fields.get(field, ())
    if len(asked) > MAX_REPEATED:
        raise InvalidRequest(
            f"{field} has {len(asked)} entries, at most {MAX_REPEATED} are taken",
            reason="OPTION_OUT_OF_RANGE",
            field=field,
            metadata={"value": len(asked), "bound": MAX_REPEATED},
        )
    return asked


def bounded_number(
    fields: Fields, field: str, default: float, bound: str, *, low: float, high: float, open_low: bool
) -> float:
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


def require_representable(field: str, value: float, compute: np.dtype[Any], least: float = LEAST_FLOAT32) -> None:
    """Refuses a number that float32 does not hold where kernels compute in float32. least: what is small enough."""
    if compute == FLOAT64 or least <= value <= MOST_FLOAT32:
        return
    bound = f"[{least:.3g}, {MOST_FLOAT32:.3g}]"
    raise InvalidRequest(
        f"{field} = {value} is outside {bound}, what float32 holds, which this is computed in; float64 tensors are "
        "computed in float64",
        reason="OPTION_OUT_OF_RANGE",
        field=field,
        metadata={"value": value, "bound": bound, "dtype": "float32"},
    )


def label_smoothing(fields: Fields, classes: int, compute: np.dtype[Any]) -> float:
    """ε. One whose share of a class float32 does not hold is raised until it does: it annihilates nothing."""
    epsilon = bounded_number(fields, "label_smoothing", 0.0, "[0, 1]", low=0.0, high=1.0, open_low=False)
    if compute == FLOAT64 or epsilon == 0.0:
        return epsilon
    return max(epsilon, classes * LEAST_FLOAT32)


def log_base(fields: Fields) -> float:
    """ln(base): 1 where the base is e."""
    if "base" not in fields:
        return 1.0
    bound = "(0, inf) without 1"
    base = bounded_number(fields, "base", 0.0, bound, low=0.0, high=float("inf"), open_low=True)
    if base == 1.0:
        raise out_of_range("base", base, bound)
    return log(base)


def reducing(
    rpc: str,
    fields: Fields,
    log_base: float,
    grad_output: Array | None,
    loss_shape: tuple[int, ...],
    reductions: Mapping[int, Reduction] = REDUCTIONS,
) -> Reducing:
    """How losses of `loss_shape` become the answer, with a scalar loss's upstream gradient as a number.

    reductions: those that the loss takes, 0 its default.
    """
    reduction = choice(rpc, fields, "reduction", pb.Reduction, reductions)
    normalizer = None
    if "normalizer" in fields:
        if reduction is not Reduction.MEAN:
            said = _reduction_word(fields, reduction)
            raise InvalidRequest(
                f"normalizer is given with reduction {said}, but only a mean has a denominator",
                reason="OPTION_NOT_TAKEN",
                field="normalizer",
                metadata={"value": fields["normalizer"], "reduction": said},
            )
        normalizer = bounded_number(fields, "normalizer", 0.0, "(0, inf)", low=0.0, high=float("inf"), open_low=True)
    upstream = 1.0
    if grad_output is not None:
        shape = loss_shape if reduction is Reduction.NONE else ()
        if grad_output.shape != shape:
            because = f"that of the loss with reduction {_reduction_word(fields, reduction)}"
            raise mismatch(grad_output.shape, shape, "grad_output", because)
        if reduction is not Reduction.NONE:
            upstream = float(widen(grad_output.values, grad_output.dtype, FLOAT64)[0])
    return Reducing(
        reduction=reduction,
        normalizer=normalizer,
        empty_mean_zero=choice(rpc, fields, "empty_mean", pb.EmptyMean, EMPTY_MEAN_ZERO),
        log_base=log_base,
        upstream=upstream,
    )


def _reduction_word(fields: Fields, reduction: Reduction) -> str:
    """What the request says, which for batchmean is not what is done; else the loss's default."""
    return value_names(pb.Reduction.DESCRIPTOR).get(fields.get("reduction", 0), reduction.name.lower())


def name_of(enum: Any, value: int, field: str) -> str:
    """What people call the enum value; refused where it has no name, or where it says nothing, as 0 does."""
    words = value_names(enum.DESCRIPTOR)
    if value not in words:
        raise InvalidRequest(
            f"{field} = {value} is not one of {', '.join(words.values())}",
            reason="UNKNOWN_ENUM",
            field=field.partition("[")[0],
            metadata={"value": value, "enum": enum.DESCRIPTOR.name},
        )
    return words[value]
