"""Entropy of probabilities, logits or counts: −Σ p ln p of every row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tests.oracle.exact import ONE, ZERO, Number, decode, full, log, times, total
from tests.oracle.reducing import Reducing, Reference
from tests.oracle.softmax import softmax

Row = tuple[Number, list[Number]]  # the entropy, d/d entry


def of_probabilities(p: Sequence[Number]) -> Row:
    """Neither normalised nor clamped: NaN below 0; the derivative at 0 is +∞."""
    return -total(times(v, log(v)) for v in p), [-(log(v) + ONE) for v in p]


def of_logits(x: Sequence[Number]) -> Row:
    """Σ p·(−ln p), and p·((−ln p) − H)."""
    soft = softmax(x)
    h = soft.entropy
    return h, [times(p, surprise - h) for p, surprise in zip(soft.p, soft.surprise, strict=True)]


def of_counts(k: Sequence[Number]) -> Row:
    """After normalising by their sum S: −(ln q + H)/S."""
    whole = total(k)
    q = [v / whole for v in k]
    h = -total(times(v, log(v)) for v in q)
    return h, [-(log(v) + h) / whole for v in q]


KINDS: dict[str, Callable[[Sequence[Number]], Row]] = {
    "probabilities": of_probabilities,
    "logits": of_logits,
    "counts": of_counts,
}


def entropy(input: Any, *, kind: str = "probabilities", dim: int | None = None, **shared: Any) -> Reference:
    """input: any shape with at least one dimension; the class dimension is 1, or 0 for a 1-D input."""
    reducing = Reducing(**shared)
    x = decode(input)
    axis = dim if dim is not None else 0 if x.ndim == 1 else 1
    rows = np.moveaxis(x, axis, -1)
    shape = rows.shape[:-1]
    r = reducing.row_weights(shape)
    weight_sum, count = total(r.reshape(-1)), r.size
    s = reducing.scales(shape, weight_sum, count)
    losses, dx, size = full(shape, ZERO), full(rows.shape, ZERO), ZERO
    for row in np.ndindex(shape):
        h, by_entry = KINDS[kind](list(rows[row]))
        losses[row] = times(r[row], h)
        scale = times(s[row], r[row])
        dx[row] = [times(scale, value) for value in by_entry]
        if kind == "counts":  # ln q + H: nearly equal counts leave little of either
            size = max(size, abs(scale / total(rows[row])))
    reference = reducing.finish(losses, weight_sum, count, {"input": np.moveaxis(dx, -1, axis)})
    return replace(reference, sizes={"input": size})
