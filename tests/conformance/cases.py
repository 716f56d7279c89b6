"""The cases: every loss × option × reduction × dtype × layout on small tensors, and a ladder of sizes.

Random numbers come from a seed of each case's own name, so a case is the same alone and in the grid.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

DTYPES: dict[str, Any] = {
    "float32": np.float32,
    "float64": np.float64,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
}
REDUCTIONS = ("mean", "sum", "none")
LAYOUTS: dict[str, tuple[int, ...]] = {
    "C": (5,),
    "NC": (4, 5),
    "NCd": (2, 3, 4),
    "NCdd": (2, 3, 2, 2),
}
SIZES: dict[tuple[int, ...], str] = {
    (3, 1): "one class: the loss is 0",
    (5, 2): "the fewest classes with a choice",
    (3, 3): "under every vector width",
    (17, 10): "more rows than lanes, as in digits",
    (2, 16): "exactly one vector of 16 lanes",
    (2, 17): "one more than 16 lanes",
    (2, 100): "not a multiple of any lane count",
    (1, 1000): "ImageNet's classes",
    (1, 4096): "exactly one block",
    (1, 4099): "a block and a tail",
    (1, 8193): "two blocks and a tail of one",
    (2, 3, 17): "more inner positions than lanes",
    (1, 70, 3, 3): "classes far apart in memory",
    (1, 2, 1): "an inner dimension of 1",
}


@dataclass(frozen=True)
class Asked:
    """One call of the client's: method, tensors, options."""

    method: str
    tensors: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One call and its name; `options` are the client's."""

    name: str
    asked: Asked

    def __str__(self) -> str:
        return self.name


@dataclass
class Values:
    """Ordinary values of one dtype and input shape, from a seed."""

    rng: np.random.Generator
    dtype: Any
    shape: tuple[int, ...]

    @property
    def classes(self) -> int:
        return self.shape[0] if len(self.shape) == 1 else self.shape[1]

    @property
    def rows(self) -> tuple[int, ...]:
        return () if len(self.shape) == 1 else self.shape[:1] + self.shape[2:]

    def stored(self, values: Any) -> Array:
        return np.asarray(values).astype(self.dtype)

    def logits(self) -> Array:
        return self.stored(self.rng.normal(0, 3, self.shape))

    def distribution(self) -> Array:
        e = np.exp(self.rng.normal(0, 1, self.shape))
        return self.stored(e / e.sum(axis=0 if e.ndim == 1 else 1, keepdims=True))

    def probabilities(self) -> Array:
        return self.stored(self.rng.uniform(0.02, 0.98, self.shape))

    def counts(self) -> Array:
        return self.stored(self.rng.integers(1, 10, self.shape))

    def index(self) -> Array:
        return np.asarray(self.rng.integers(0, self.classes, self.rows))

    def positive(self, shape: tuple[int, ...]) -> Array:
        return self.stored(self.rng.uniform(0.25, 2, shape))

    def signed(self, shape: tuple[int, ...]) -> Array:
        return self.stored(self.rng.normal(0, 1, shape))

    def some_ignored(self, y: Array, ignore_index: int) -> Array:
        """y with its first row, and about a quarter of the rest, ignored (a lone row is kept)."""
        chosen = self.rng.random(y.shape) < 0.25
        chosen.reshape(-1)[:1] = chosen.size > 1
        return np.where(chosen, ignore_index, y)


Options = Callable[[Values, str], dict[str, Any]]


def upstream(values: Values, loss_shape: tuple[int, ...], reduction: str) -> dict[str, Any]:
    return {"grad_output": values.signed(loss_shape if reduction == "none" else ())}


# Options that every loss has.
EVERY: dict[str, Options] = {
    "plain": lambda v, r: {},
    "loss only": lambda v, r: {"grad": None},
    "input gradient only": lambda v, r: {"grad": True},
    "normalizer": lambda v, r: {"normalizer": 7.5} if r == "mean" else {},
}
BY_ROW: dict[str, Options] = EVERY | {
    "grad_output": lambda v, r: upstream(v, v.rows, r),
    "base 2": lambda v, r: {"base": 2.0},
}
BY_CLASS: dict[str, Options] = {
    "weight": lambda v, r: {"weight": v.positive((v.classes,))},
    "smoothing": lambda v, r: {"label_smoothing": 0.1},
    "smoothing 1": lambda v, r: {"label_smoothing": 1.0},
    "all": lambda v, r: (
        {"weight": v.positive((v.classes,)), "label_smoothing": 0.3, "base": 10.0} | upstream(v, v.rows, r)
    ),
}
INDEX: dict[str, Options] = (
    BY_ROW
    | BY_CLASS
    | {
        "ignored": lambda v, r: {"ignore_index": -100},
        "ignored class": lambda v, r: {"ignore_index": 1},
        "ignored, all": lambda v, r: {"ignore_index": 0} | BY_CLASS["all"](v, r),
    }
)
BY_ELEMENT: dict[str, Options] = EVERY | {
    "grad_output": lambda v, r: upstream(v, v.shape, r),
    "weight": lambda v, r: {"weight": v.positive(v.shape)},
    "weight of the last dimension": lambda v, r: {"weight": v.positive(v.shape[-1:])},
    "weight of the first dimension": lambda v, r: {"weight": v.positive(v.shape[:1] + (1,) * (len(v.shape) - 1))},
    "one weight": lambda v, r: {"weight": v.positive(())},
}
LOGITS_BY_ELEMENT: dict[str, Options] = BY_ELEMENT | {
    "pos_weight": lambda v, r: {"pos_weight": v.positive(v.shape[-1:])},
    "all": lambda v, r: (
        {"pos_weight": v.positive(v.shape), "weight": v.positive(v.shape[:1] + (1,) * (len(v.shape) - 1))}
        | upstream(v, v.shape, r)
    ),
}


def index(v: Values, options: dict[str, Any]) -> tuple[Array, ...]:
    y = v.index()
    return v.logits(), v.some_ignored(y, options["ignore_index"]) if "ignore_index" in options else y


# Loss → method, its tensors, the gradients it has, its own options, its table of options.
Tensors = Callable[[Values, dict[str, Any]], tuple[Array, ...]]
LOSSES: dict[str, tuple[str, Tensors, tuple[str, ...], dict[str, Any], dict[str, Options]]] = {
    "cross_entropy index": ("cross_entropy", index, ("input",), {}, INDEX),
    "cross_entropy distribution": (
        "cross_entropy",
        lambda v, o: (v.logits(), v.distribution()),
        ("input", "target"),
        {},
        BY_ROW | BY_CLASS,
    ),
    "bce": ("bce", lambda v, o: (v.probabilities(), v.probabilities()), ("input", "target"), {}, BY_ELEMENT),
    "bce_with_logits": (
        "bce_with_logits",
        lambda v, o: (v.logits(), v.probabilities()),
        ("input", "target"),
        {},
        LOGITS_BY_ELEMENT,
    ),
    "entropy probabilities": ("entropy", lambda v, o: (v.distribution(),), ("input",), {}, BY_ROW),
    "entropy logits": ("entropy", lambda v, o: (v.logits(),), ("input",), {"kind": "logits"}, BY_ROW),
    "entropy counts": ("entropy", lambda v, o: (v.counts(),), ("input",), {"kind": "counts"}, BY_ROW),
}


def case(loss: str, option: str, reduction: str, dtype: str, shape: tuple[int, ...]) -> Case:
    method, tensors, gradients, own, table = LOSSES[loss]
    name = f"{loss}, {option}, {reduction}, {dtype}, {'x'.join(map(str, shape))}"
    values = Values(np.random.default_rng(zlib.crc32(name.encode())), DTYPES[dtype], shape)
    options = {"reduction": reduction, "grad": gradients} | own | table[option](values, reduction)
    return Case(name, Asked(method, tensors(values, options), options))


def grid() -> Iterator[Case]:
    """Every loss × option × reduction × dtype × layout."""
    for loss, (*_, table) in LOSSES.items():
        for option in table:
            for reduction in REDUCTIONS:
                for dtype in DTYPES:
                    for shape in LAYOUTS.values():
                        yield case(loss, option, reduction, dtype, shape)


def sizes() -> Iterator[Case]:
    """Every loss × size × dtype; the reduction goes round."""
    for loss in LOSSES:
        for n, shape in enumerate(SIZES):
            for m, dtype in enumerate(DTYPES):
                yield case(loss, "plain", REDUCTIONS[(n + m) % 3], dtype, shape)


def every_option() -> Iterator[Case]:
    """Every loss × option × reduction, where dtypes and layouts go round: for a slow backend."""
    n = 0
    for loss, (*_, table) in LOSSES.items():
        for option in table:
            for reduction in REDUCTIONS:
                dtype, shape = list(DTYPES)[n % 4], list(LAYOUTS.values())[(n // 4) % 4]
                yield case(loss, option, reduction, dtype, shape)
                n += 1
