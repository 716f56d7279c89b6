"""The cases: every loss × option × reduction × dtype × layout on small tensors, and a ladder of sizes.

Random numbers come from a seed of each case's own name, so a case is the same alone and in the grid.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, product
from typing import Any

import numpy as np

from tests.conformance.losses import LOSSES
from tests.conformance.values import DTYPES, EIGHT_BITS, Values

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
    dtype: str
    asked: Asked

    def __str__(self) -> str:
        return self.name


def case(loss: str, option: str, reduction: str, dtype: str, shape: tuple[int, ...]) -> Case:
    """reduction: "" for an activation."""
    of = LOSSES[loss]
    name = f"{loss}, {option}, {reduction}, {dtype}, {'x'.join(map(str, shape))}"
    values = Values(np.random.default_rng(zlib.crc32(name.encode())), (DTYPES | EIGHT_BITS)[dtype], shape)
    options = {"grad": of.gradients} | of.own | of.options[option](values, reduction)
    if reduction:
        options["reduction"] = reduction
    return Case(name, dtype, Asked(of.method, of.tensors(values, options), options))


def grid(loss: str, option: str) -> Iterator[Case]:
    """Every reduction × dtype × layout of the losses that PyTorch users meet; for the other kinds layouts go round."""
    of, turn = LOSSES[loss], count(zlib.crc32(option.encode()))
    for reduction, dtype in product(of.reductions, DTYPES):
        for shape in list(LAYOUTS.values()) if of.primary else [_next(LAYOUTS.values(), turn)]:
            yield case(loss, option, reduction, dtype, shape)
    for dtype, shape in product(EIGHT_BITS, LAYOUTS.values()):
        yield case(loss, option, _next(of.reductions, turn), dtype, shape)


def sizes(loss: str) -> Iterator[Case]:
    """Every size, dtypes and reductions going round; the largest for the losses that PyTorch users meet."""
    of, turn = LOSSES[loss], count(zlib.crc32(loss.encode()))
    for n, shape in enumerate(SIZES):
        if of.primary or max(shape) <= 1000:
            yield case(loss, "plain", of.reductions[n % len(of.reductions)], _next(DTYPES, turn), shape)


def every_option(loss: str) -> Iterator[Case]:
    """Every option, where reductions, dtypes and layouts go round: for a slow backend."""
    of, turn = LOSSES[loss], zlib.crc32(loss.encode())
    for n, option in enumerate(of.options, turn):
        dtypes, shapes = list(DTYPES | EIGHT_BITS), list(LAYOUTS.values())
        reduction = of.reductions[n % len(of.reductions)]
        yield case(loss, option, reduction, dtypes[n % 6], shapes[n // 2 % 4])


def _next(choices: Any, turn: Iterator[int]) -> Any:
    among = list(choices)
    return among[next(turn) % len(among)]
