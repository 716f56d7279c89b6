"""CrossEntropy of logits with class indices or with distributions.

Both are Σ u[c]·(−ln p[c]) with a row of shares u: (1−ε)·w[y]·[c=y] + (ε/C)·w[c] for an index, w[c]·((1−ε)·t[c] + ε/C)
for a distribution.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.oracle.exact import ONE, ZERO, Number, Numbers, decode, full, mp, times, total
from tests.oracle.reducing import Reducing, Reference
from tests.oracle.softmax import softmax


def cross_entropy(
    input: Any,
    target: Any,
    *,
    weight: Any = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    **shared: Any,
) -> Reference:
    """input: (C), (N, C) or (N, C, d1 … dk); target: indices of the rows' shape or a distribution of the input's."""
    reducing = Reducing(**shared)
    x = decode(input)
    dim = 0 if x.ndim == 1 else 1
    rows = np.moveaxis(x, dim, -1)
    shape, classes = rows.shape[:-1], x.shape[dim]
    w = full((classes,), ONE) if weight is None else decode(weight)
    r = reducing.row_weights(shape)
    smoothing = mp.mpf(label_smoothing)
    index = np.asarray(target).dtype.kind in "iu"
    y = np.asarray(target).reshape(shape) if index else None
    t = None if index else np.moveaxis(decode(target), dim, -1)

    def kept(row: tuple[int, ...]) -> bool:
        return y is None or int(y[row]) != ignore_index

    def shares(row: tuple[int, ...]) -> list[Number]:
        if y is None:
            assert t is not None
            return [times(w[c], (1 - smoothing) * t[row][c] + smoothing / classes) for c in range(classes)]
        spread = [times(smoothing / classes, w[c]) for c in range(classes)]
        spread[int(y[row])] += times(1 - smoothing, w[int(y[row])])
        return spread

    losses, denominators = full(shape, ZERO), full(shape, ZERO)
    for row in np.ndindex(shape):
        if kept(row):
            denominators[row] = r[row] if y is None else r[row] * w[int(y[row])]
    weight_sum = total(denominators.reshape(-1))
    count = sum(kept(row) for row in np.ndindex(shape))
    s = reducing.scales(shape, weight_sum, count)

    dx, dt = full(rows.shape, ZERO), full(rows.shape, ZERO)
    for row in np.ndindex(shape):
        if not kept(row):
            continue
        soft, u = softmax(list(rows[row])), shares(row)
        scale = s[row] * r[row]
        losses[row] = times(r[row], total(times(a, b) for a, b in zip(u, soft.surprise, strict=True)))
        for c, value in enumerate(soft.gradient(u)):
            dx[row][c] = scale * value
            dt[row][c] = scale * times(1 - smoothing, w[c], soft.surprise[c])
    grads: dict[str, Numbers] = {"input": np.moveaxis(dx, -1, dim)}
    if not index:
        grads["target"] = np.moveaxis(dt, -1, dim)
    return reducing.finish(losses, weight_sum, count, grads)
