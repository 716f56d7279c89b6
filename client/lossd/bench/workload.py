"""The requests of a bench, drawn from a seed, with the right answer to each."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from math import prod
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lossd.bench.check import Expected
from lossd.bench.float64 import FORMS, INDICES, ROW_LOSSES
from lossd.contract import class_axis
from lossd.extras import need
from lossd.request.build import METHODS

LOSSES = tuple(FORMS)
DTYPES = ("float32", "float64", "float16", "bfloat16")
# Distinct requests of a shape: enough to defeat caches and branch predictors, as far as memory allows.
DISTINCT, DISTINCT_BYTES = 16, 32 << 20
Order = Literal["cycle", "random"]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """The kind of requests to send. shapes: of the input. order: in which the shapes are sent."""

    loss: str = "cross_entropy"
    shapes: tuple[Shape, ...] = ((8, 16),)
    dtype: str = "float32"
    reduction: str = "mean"
    gradient: bool = False
    order: Order = "cycle"
    seed: int = 0

    @property
    def title(self) -> str:
        shapes = " ".join(f"({', '.join(map(str, shape))})" for shape in self.shapes)
        gradient = " with gradient" if self.gradient else ""
        return f"{self.loss} of {shapes} {self.dtype}, {self.reduction}{gradient}"


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One evaluation. options: of the client's method. nbytes: of its tensors, in both directions."""

    method: str
    operands: tuple[npt.NDArray[Any], ...]
    options: dict[str, Any]
    rows: int
    elements: int
    nbytes: int
    expected: Expected


def requests(mix: Mix) -> list[Request]:
    """The distinct requests, cycling through the shapes, so that any stretch of them is the mix."""
    dtype, resolution = _dtype(mix.dtype)
    drawn = np.random.default_rng(mix.seed)
    sizes = [prod(shape) * dtype.itemsize for shape in mix.shapes]
    # The same number of each shape: with unequal numbers a cycle would not be the requested mix.
    distinct = max(1, min(DISTINCT, DISTINCT_BYTES // max(1, *sizes)))
    return [_request(mix, shape, dtype, resolution, drawn) for _ in range(distinct) for shape in mix.shapes]


def order(mix: Mix, requests: Sequence[Request]) -> Iterator[Request]:
    """The requests in the order of sending, without end."""
    if mix.order == "cycle":
        return cycle(requests)
    drawn = random.Random(mix.seed)
    return iter(lambda: drawn.choice(requests), None)


def _dtype(name: str) -> tuple[np.dtype[Any], tuple[float, float]]:
    """The dtype, and its resolution as `Expected` needs it."""
    if name != "bfloat16":
        dtype = np.dtype(name)
        return dtype, (float(np.finfo(dtype).eps), float(np.finfo(dtype).smallest_subnormal))
    ml_dtypes = need("ml_dtypes", "--dtype bfloat16")
    found = ml_dtypes.finfo("bfloat16")
    return np.dtype(ml_dtypes.bfloat16), (float(found.eps), float(found.smallest_subnormal))


def _request(
    mix: Mix, shape: Shape, dtype: np.dtype[Any], resolution: tuple[float, float], drawn: np.random.Generator
) -> Request:
    operands = _operands(mix.loss, shape, dtype, drawn)
    expected = Expected(mix.loss, operands, mix.reduction, mix.gradient, resolution)
    options: dict[str, Any] = {"reduction": mix.reduction}
    if mix.gradient:
        options["grad"] = True
    classes = shape[class_axis(len(shape))]
    rows = prod(shape) // classes
    losses = (rows if mix.loss in ROW_LOSSES else prod(shape)) if mix.reduction == "none" else 1
    answered = losses * max(4, dtype.itemsize) + (operands[0].nbytes if mix.gradient else 0)
    nbytes = sum(one.nbytes for one in operands) + answered
    return Request(mix.loss, operands, options, rows, prod(shape), nbytes, expected)


def _operands(
    loss: str, shape: Shape, dtype: np.dtype[Any], drawn: np.random.Generator
) -> tuple[npt.NDArray[Any], ...]:
    """Valid inputs of a loss: probabilities stay away from 0 and 1, and rows of them add up to 1."""
    axis = class_axis(len(shape))
    if loss in ("bce", "self_information"):
        input = drawn.uniform(0.05, 0.95, shape)
    elif loss == "entropy":
        input = _probabilities(shape, axis, dtype, drawn)
    elif loss in ("kl_divergence", "nll"):
        input = np.log(_probabilities(shape, axis, dtype, drawn))
    else:
        input = 3 * drawn.standard_normal(shape)
    # An array that owns its memory: a client may treat views differently.
    first = np.ascontiguousarray(input.astype(dtype))
    if len(METHODS[loss].tensors) == 1:
        return (first,)
    if loss in INDICES:
        rows = shape[:axis] + shape[axis + 1 :]
        return first, np.asarray(drawn.integers(0, shape[axis], rows), np.int64)
    if loss == "kl_divergence":
        return first, _probabilities(shape, axis, dtype, drawn).astype(dtype)
    return first, drawn.integers(0, 2, shape).astype(dtype)


def _probabilities(
    shape: Shape, axis: int, dtype: np.dtype[Any], drawn: np.random.Generator
) -> npt.NDArray[np.float64]:
    exponentials = np.exp(drawn.standard_normal(shape))
    probabilities: npt.NDArray[np.float64] = exponentials / exponentials.sum(axis=axis, keepdims=True)
    # Below the least normal number a kernel may flush to 0, which has no finite logarithm.
    return np.maximum(probabilities, 2e-4 if dtype == np.float16 else 0.0)
