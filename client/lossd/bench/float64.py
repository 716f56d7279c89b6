"""Reference losses and gradients in float64: closed forms in numpy that avoid cancellation.

Without weights and options: what `lossd bench`, the demo and the benchmarks ask for. The formulas are those of
docs/losses; tests hold them to 50 digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.contract import class_axis

Array = npt.NDArray[np.float64]
# A form takes rows (R, C) and their targets, and gives losses, (R) or (R, C), and d loss / d input, (R, C).
Form = Callable[[Array, npt.NDArray[Any] | None], tuple[Array, Array]]

# Elements at a time, so that temporaries take a few times 8 MiB whatever the input's size.
_BLOCK = 1 << 20


def closed_form(
    method: str, input: npt.NDArray[Any], target: npt.NDArray[Any] | None, reduction: str
) -> tuple[Array, Array]:
    """The loss of `method` and its gradient, of the input's shape.

    input: any float dtype, (C), (N, C) or (N, C, d1 … dk). target: class indices, or of the input's shape. reduction:
    "none", "mean", "sum" or "batchmean".
    """
    form = FORMS[method]
    indices = method in INDICES
    axis = class_axis(input.ndim)
    moved = np.moveaxis(input, axis, -1)
    rows = moved.reshape(-1, moved.shape[-1])
    answers: npt.NDArray[Any] | None = None
    if target is not None:
        answers = target.reshape(-1) if indices else np.moveaxis(target, axis, -1).reshape(rows.shape)
    slopes = np.empty(rows.shape)
    losses = np.empty(rows.shape[0] if method in ROW_LOSSES else rows.shape)
    step = max(1, _BLOCK // rows.shape[1])
    for start in range(0, len(rows), step):
        block = slice(start, start + step)
        wide = rows[block].astype(np.float64)
        losses[block], slopes[block] = form(wide, None if answers is None else answers[block])
    denominator = {"none": 1, "sum": 1, "mean": losses.size, "batchmean": input.shape[0]}[reduction]
    slopes /= denominator
    gradient = np.moveaxis(slopes.reshape(moved.shape), -1, axis)
    if reduction != "none":
        return np.asarray(math.fsum(losses.sum(axis=-1).ravel()) / denominator), gradient
    if method in ROW_LOSSES:
        return losses.reshape(moved.shape[:-1]), gradient
    return np.moveaxis(losses.reshape(moved.shape), -1, axis), gradient


def _cross_entropy(x: Array, y: npt.NDArray[Any] | None) -> tuple[Array, Array]:
    """−log p_y = (m − x_y) + log1p(rest): rest is the sum of the exponentials without the maximum's own 1."""
    at, greatest, rest, exponentials = _softmax(x)
    every = np.arange(len(x))
    losses = greatest - x[every, y] + np.log1p(rest)
    slopes = exponentials / (1 + rest)[:, None]
    slopes[every, y] -= 1
    # 1 − p at the maximum is rest / (1 + rest), where 1 − 1 would be 0.
    sure = every[at == y]
    slopes[sure, at[sure]] = -rest[sure] / (1 + rest[sure])
    return losses, slopes


def _softmax(x: Array) -> tuple[npt.NDArray[np.intp], Array, Array, Array]:
    """Index of the maximum, the maximum, rest, and exp(x − maximum)."""
    every, at = np.arange(len(x)), x.argmax(axis=1)
    greatest: Array = x[every, at]
    exponentials: Array = np.exp(x - greatest[:, None])
    exponentials[every, at] = 0
    rest: Array = exponentials.sum(axis=1)
    exponentials[every, at] = 1
    return at, greatest, rest, exponentials


def _nll(u: Array, y: npt.NDArray[Any] | None) -> tuple[Array, Array]:
    every = np.arange(len(u))
    slopes = np.zeros(u.shape)
    slopes[every, y] = -1
    return -u[every, y], slopes


def _entropy(p: Array, _: npt.NDArray[Any] | None) -> tuple[Array, Array]:
    logarithms = np.log(p)
    return -(p * logarithms).sum(axis=1), -(logarithms + 1)


def _bce(p: Array, t: npt.NDArray[Any] | None) -> tuple[Array, Array]:
    wide = np.asarray(t, np.float64)
    losses = -(wide * np.maximum(np.log(p), -100) + (1 - wide) * np.maximum(np.log1p(-p), -100))
    return losses, (p - wide) / np.maximum(p * (1 - p), 1e-12)


def _bce_with_logits(x: Array, t: npt.NDArray[Any] | None) -> tuple[Array, Array]:
    wide = np.asarray(t, np.float64)
    small = np.exp(-np.abs(x))
    tail = np.log1p(small)
    losses = wide * (np.maximum(-x, 0) + tail) + (1 - wide) * (np.maximum(x, 0) + tail)
    rising, falling = np.where(x >= 0, 1, small) / (1 + small), np.where(x >= 0, small, 1) / (1 + small)
    return losses, (1 - wide) * rising - wide * falling


def _kl_divergence(u: Array, p: npt.NDArray[Any] | None) -> tuple[Array, Array]:
    wide = np.asarray(p, np.float64)
    return wide * (np.log(wide) - u), -wide


def _self_information(p: Array, _: npt.NDArray[Any] | None) -> tuple[Array, Array]:
    return -np.log(p), -1 / p


FORMS: dict[str, Form] = {
    "cross_entropy": _cross_entropy,
    "bce": _bce,
    "bce_with_logits": _bce_with_logits,
    "entropy": _entropy,
    "kl_divergence": _kl_divergence,
    "nll": _nll,
    "self_information": _self_information,
}
# These have a loss for each row, the others for each element.
ROW_LOSSES = frozenset({"cross_entropy", "entropy", "nll"})
INDICES = frozenset({"cross_entropy", "nll"})
