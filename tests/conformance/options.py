"""Tables of options: a name, and the client's options for given values and reduction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.conformance.values import Values

Options = dict[str, Callable[[Values, str], dict[str, Any]]]


def upstream(values: Values, loss_shape: tuple[int, ...], reduction: str) -> dict[str, Any]:
    return {"grad_output": values.signed(loss_shape if reduction == "none" else ())}


EVERY: Options = {
    "plain": lambda v, r: {},
    "loss only": lambda v, r: {"grad": None},
    "input gradient only": lambda v, r: {"grad": True},
    "normalizer": lambda v, r: {"normalizer": 7.5} if r in ("mean", "batchmean") else {},
}
ROWS: Options = EVERY | {"grad_output": lambda v, r: upstream(v, v.rows, r)}
ELEMENTS: Options = EVERY | {"grad_output": lambda v, r: upstream(v, v.shape, r)}
BASE: Options = {"base 2": lambda v, r: {"base": 2.0}}
ROW_WEIGHT: Options = {"row weight": lambda v, r: {"row_weight": v.positive(v.rows)}}
CLASSES: Options = {
    "weight": lambda v, r: {"weight": v.positive((v.classes,))},
    "smoothing": lambda v, r: {"label_smoothing": 0.1},
    "smoothing 1": lambda v, r: {"label_smoothing": 1.0},
    "all": lambda v, r: (
        {"weight": v.positive((v.classes,)), "row_weight": v.positive(v.rows), "label_smoothing": 0.3, "base": 10.0}
        | upstream(v, v.rows, r)
    ),
}
IGNORED: Options = {
    "ignored": lambda v, r: {"ignore_index": -100},
    "ignored class": lambda v, r: {"ignore_index": 1},
    "ignored, weight": lambda v, r: {"ignore_index": 0, "weight": v.positive((v.classes,))},
}
CROSS_ENTROPY = ROWS | BASE | ROW_WEIGHT | CLASSES
INDEX = CROSS_ENTROPY | IGNORED | {"ignored, all": lambda v, r: {"ignore_index": 0} | CLASSES["all"](v, r)}
WEIGHT_GRADIENT: Options = {
    "weight gradient": lambda v, r: {"weight": v.positive((v.classes,)), "grad": ("weight",)},
    "weight gradient without a weight": lambda v, r: {"grad": ("input", "weight")},
    "all gradients": lambda v, r: CLASSES["all"](v, r) | {"grad": ("input", "target", "weight")},
}
# What logits alone have.
SOFTMAX: Options = {
    "z-loss": lambda v, r: {"z_loss": 0.125},
    "softcap": lambda v, r: {"softcap": 4.0},
    "outputs": lambda v, r: {"outputs": ("lse", "entropy", "argmax")},
    "outputs alone": lambda v, r: {"outputs": ("lse", "entropy", "argmax"), "grad": None},
}
SOFTMAX_INDEX: Options = SOFTMAX | {
    "correct": lambda v, r: {"outputs": "correct", "ignore_index": -100},
    "softmax, all": lambda v, r: (
        INDEX["ignored, all"](v, r)
        | {"z_loss": 0.5, "softcap": 2.5, "outputs": ("lse", "entropy", "argmax", "correct")}
    ),
}
SOFTMAX_DISTRIBUTION: Options = SOFTMAX | {
    "softmax, all": lambda v, r: (
        WEIGHT_GRADIENT["all gradients"](v, r)
        | {"z_loss": 0.5, "softcap": 2.5, "outputs": ("lse", "entropy", "argmax")}
    ),
}
NLL = ROWS | IGNORED | {"weight": CLASSES["weight"]}
BCE: Options = ELEMENTS | {
    "weight": lambda v, r: {"weight": v.positive(v.shape)},
    "weight of the last dimension": lambda v, r: {"weight": v.positive(v.shape[-1:])},
    "weight of the first dimension": lambda v, r: {"weight": v.positive(v.shape[:1] + (1,) * (len(v.shape) - 1))},
    "one weight": lambda v, r: {"weight": v.positive(())},
}
BCE_WITH_LOGITS: Options = BCE | {
    "pos_weight": lambda v, r: {"pos_weight": v.positive(v.shape[-1:])},
    "all": lambda v, r: (
        {"pos_weight": v.positive(v.shape), "weight": v.positive(v.shape[:1] + (1,) * (len(v.shape) - 1))}
        | upstream(v, v.shape, r)
    ),
}
ENTROPY = (
    ROWS
    | BASE
    | ROW_WEIGHT
    | {"all": lambda v, r: ROW_WEIGHT["row weight"](v, r) | {"base": 2.0} | ROWS["grad_output"](v, r)}
)
DIVERGENCE = ELEMENTS | BASE | {"all": lambda v, r: {"base": 2.0} | ELEMENTS["grad_output"](v, r)}
ACTIVATION: Options = {
    "plain": lambda v, r: {},
    "loss only": lambda v, r: {"grad": None},
    "grad_output": lambda v, r: upstream(v, v.shape, "none"),
}
