"""NLL: −w[y]·u[y] of every row of log-probabilities u. Only the entry at the target counts, NaN or not."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.oracle.exact import ONE, ZERO, decode, full, times, total
from tests.oracle.reducing import Reducing, Reference


def nll(input: Any, target: Any, *, weight: Any = None, ignore_index: int = -100, **shared: Any) -> Reference:
    """input: (C), (N, C) or (N, C, d1 … dk); target: class indices of the rows' shape."""
    reducing = Reducing(**shared)
    x = decode(input)
    dim = 0 if x.ndim == 1 else 1
    rows = np.moveaxis(x, dim, -1)
    shape = rows.shape[:-1]
    y = np.asarray(target).reshape(shape)
    w = full((rows.shape[-1],), ONE) if weight is None else decode(weight)
    kept = [row for row in np.ndindex(shape) if int(y[row]) != ignore_index]
    weight_sum = total(w[int(y[row])] for row in kept)
    s = reducing.scales(shape, weight_sum, len(kept))
    losses, dx = full(shape, ZERO), full(rows.shape, ZERO)
    for row in kept:
        label = int(y[row])
        losses[row] = -times(w[label], rows[row][label])
        dx[row][label] = -times(s[row], w[label])
    return reducing.finish(losses, weight_sum, len(kept), {"input": np.moveaxis(dx, -1, dim)})
