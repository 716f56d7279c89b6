"""CrossEntropy of logits, log-probabilities, probabilities or counts, with class indices, distributions or counts.

All are Σ u[c]·(−ln q[c]) with the shares u of `Targets`. From logits, κ·lse² is added; before all else a cap k makes
k·tanh(x/k) of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tests.oracle.exact import INF, ONE, ZERO, Number, Numbers, decode, full, largest, mp, times, total
from tests.oracle.kinds import KINDS, Counts, Distribution
from tests.oracle.outputs import Outputs
from tests.oracle.reducing import Reducing, Reference
from tests.oracle.softmax import Softmax
from tests.oracle.targets import Targets


class Row:
    """One row's loss, d/d entry, and their sizes: what both are sums of."""

    def __init__(self, entries: Sequence[Number], kind: str, u: list[Number], z_loss: Number, softcap: Any) -> None:
        capped, slopes = cap(entries, softcap)
        self.entries, self.q = capped, KINDS[kind](capped)
        terms = [times(a, b) for a, b in zip(u, self.q.surprise, strict=True)]
        by_entry, penalised = self.q.gradient(u), total(u)
        if z_loss:
            assert isinstance(self.q, Softmax)
            lse = self.q.lse
            terms.append(z_loss * lse**2)
            by_entry = [a + times(2 * z_loss, lse, p) for a, p in zip(by_entry, self.q.p, strict=True)]
            penalised += 2 * z_loss * abs(lse)
        self.loss = total(terms)
        self.by_entry = [times(a, slope) for a, slope in zip(by_entry, slopes, strict=True)]
        self.size = total(abs(term) for term in terms if mp.isfinite(term))
        self.gradient_size = self.entropy_size = ZERO
        if softcap is not None:
            assert isinstance(self.q, Softmax)
            # Capped logits are rounded: each may be off by its last digit, and what follows by as much as it moves.
            self.size += largest(map(times, by_entry, capped))
            self.gradient_size = times(penalised, moved(self.q.p, capped, slopes))
            away = [surprise - self.q.entropy for surprise in self.q.surprise]
            self.entropy_size = largest(map(times, self.q.p, away, capped))
        elif isinstance(self.q, Counts):  # Σ u/S − u[c]/k[c]
            self.gradient_size = largest([total(u) / self.q.sum])


def moved(p: list[Number], x: Sequence[Number], slopes: Sequence[Number]) -> Number:
    """The most that x[c]·d p[i]/d x[c] is, times the slope at i."""
    entries = range(len(p))
    return largest(times(p[i], (ONE if i == c else ZERO) - p[c], x[c], slopes[i]) for i in entries for c in entries)


def cap(x: Sequence[Number], softcap: float | None) -> tuple[list[Number], list[Number]]:
    """k·tanh(x/k) of every entry, and its derivative 1/cosh²(x/k)."""
    if softcap is None:
        return list(x), [ONE] * len(x)
    k = mp.mpf(softcap)
    slopes = [ZERO if abs(value) == INF else 1 / mp.cosh(value / k) ** 2 for value in x]
    return [k * mp.tanh(value / k) for value in x], slopes


def cross_entropy(
    input: Any,
    target: Any,
    *,
    weight: Any = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    kind: str = "logits",
    target_kind: str | None = None,
    z_loss: float = 0.0,
    softcap: float | None = None,
    outputs: Any = (),
    **shared: Any,
) -> Reference:
    """input: (C), (N, C) or (N, C, d1 … dk); target: indices of the rows' shape or a distribution of the input's."""
    reducing = Reducing(**shared)
    x = decode(input)
    dim = 0 if x.ndim == 1 else 1
    rows = np.moveaxis(x, dim, -1)
    shape = rows.shape[:-1]
    targets = Targets(target, target_kind, rows, dim, weight, ignore_index, label_smoothing)
    r = reducing.row_weights(shape)
    weight_sum = total(targets.denominators(r).reshape(-1))
    count = sum(targets.kept(row) for row in np.ndindex(shape))
    s = reducing.scales(shape, weight_sum, count)

    losses, dx, dt = full(shape, ZERO), full(rows.shape, ZERO), full(rows.shape, ZERO)
    dw: Numbers = full(rows.shape[-1:], ZERO)
    asked = Outputs(outputs, shape)
    sizes, gradient_sizes, entropy_sizes = [ZERO], [ZERO], [ZERO]
    for at in np.ndindex(shape):
        row = Row(list(rows[at]), kind, targets.shares(at), mp.mpf(z_loss), softcap)
        asked.put(at, row.entries, row.q, targets.label(at))
        entropy_sizes.append(row.entropy_size)
        if not targets.kept(at):
            continue
        scale = times(s[at], r[at])
        losses[at] = times(r[at], row.loss)
        dx[at] = [times(scale, value) for value in row.by_entry]
        sizes.append(times(abs(r[at]), row.size))
        gradient_sizes.append(times(scale, row.gradient_size))
        if not targets.index:
            smoothing = targets.smoothing
            dt[at] = [times(scale, 1 - smoothing, w, a) for w, a in zip(targets.w, row.q.surprise, strict=True)]
            dw += by_weight(scale, targets.smooth(at), row.q)
    grads: dict[str, Numbers] = {"input": np.moveaxis(dx, -1, dim)}
    if not targets.index:
        grads |= {"target": np.moveaxis(dt, -1, dim), "weight": dw}
    reference = reducing.finish(losses, weight_sum, count, grads)
    known = reducing.sizes(sizes, reference) | {"input": largest(gradient_sizes), "entropy": largest(entropy_sizes)}
    return replace(reference, outputs=asked.found, sizes=known)


def by_weight(scale: Number, smooth: list[Number], q: Distribution) -> Numbers:
    """d/dw of one row."""
    return np.array([times(scale, t, surprise) for t, surprise in zip(smooth, q.surprise, strict=True)], object)
