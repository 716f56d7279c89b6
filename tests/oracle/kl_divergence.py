"""KLDivergence: p·(ln p − ln q) of every element; q is the input and p the target, each of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tests.oracle.exact import INF, NAN, ONE, ZERO, Number, Numbers, decode, full, mp, times, total
from tests.oracle.kinds import KINDS, Distribution
from tests.oracle.reducing import Reducing, Reference


def element(p: Number, v: Number, u: Number) -> Number:
    """p·(v − u) with v = ln p and u = ln q: 0 where p is, NaN apart."""
    if p == 0:
        return NAN if mp.isnan(u) else ZERO
    return p * (v - u)


def by_probability(p: Number, v: Number, u: Number) -> Number:
    """1 + ln p − ln q; at p = 0 the limit from above, where the loss leaves 0."""
    if p != 0 or mp.isnan(u):
        return ONE + v - u
    return INF if u == -INF else -INF


def by_target(kind: str, s: Sequence[Number], p: Distribution, q: Distribution) -> list[Number]:
    """d/d entry of the target of Σ s·element, one s an element."""
    triples = [(a, -b, -c) for a, b, c in zip(p.p, p.surprise, q.surprise, strict=True)]
    if kind == "probabilities":
        return [times(scale, by_probability(*triple)) for scale, triple in zip(s, triples, strict=True)]
    each = [
        times(scale, element(a, v, u) + (a if a != 0 else ZERO)) for scale, (a, v, u) in zip(s, triples, strict=True)
    ]  # s·p·(1 + v − u)
    if kind == "log_probabilities":
        return each
    return [own - times(a, total(each)) for own, a in zip(each, p.p, strict=True)]


def parts(target_kind: str, p: Distribution, q: Distribution) -> list[Number]:
    """p·|ln p| or p·|ln q|: what losses are the differences of. Counts are divided before: p itself."""
    least = ONE if target_kind == "counts" else ZERO
    sizes = [a * max(abs(b), abs(c), least) for a, b, c in zip(p.p, p.surprise, q.surprise, strict=True)]
    return [size if mp.isfinite(size) else ZERO for size in sizes]


def target_parts(kind: str, s: Sequence[Number], p: Distribution, q: Distribution) -> list[Number]:
    """Likewise of the target's gradient: 1, ln p and ln q times s, and p unless it is the target itself."""
    factors = [ONE] * len(s) if kind == "probabilities" else p.p
    triples = zip(s, factors, p.surprise, q.surprise, strict=True)
    sizes = [abs(scale * a) * max(abs(b), abs(c), ONE) for scale, a, b, c in triples]
    return [size if mp.isfinite(size) else ZERO for size in sizes]


def kl_divergence(
    input: Any,
    target: Any,
    *,
    kind: str = "log_probabilities",
    target_kind: str = "probabilities",
    log_target: bool = False,
    **shared: Any,
) -> Reference:
    """input, target: of one shape; rows lie along dimension 1, or 0 of a 1-D input. No gradient of target counts."""
    target_kind = "log_probabilities" if log_target else target_kind
    x = decode(input)
    reducing = Reducing(**shared)
    if reducing.reduction == "batchmean":
        batch = float(x.shape[0]) if x.ndim else 1.0
        reducing = replace(reducing, reduction="mean", normalizer=reducing.normalizer or batch or None)
    axis = 1 if x.ndim > 1 else 0

    def by_rows(numbers: Numbers) -> Numbers:
        return np.moveaxis(numbers.reshape(x.shape or (1,)), axis, -1)

    def as_input(rows: Numbers) -> Numbers:
        return np.moveaxis(rows, -1, axis).reshape(x.shape)

    s = by_rows(reducing.scales(x.shape, mp.mpf(x.size), x.size))
    qs, ps = by_rows(x), by_rows(decode(target))
    losses, dx, dt = (full(qs.shape, ZERO) for _ in range(3))
    sizes: list[Number] = []
    target_sizes: list[Number] = [ZERO]
    for row in np.ndindex(qs.shape[:-1]):
        q, p = KINDS[kind](list(qs[row])), KINDS[target_kind](list(ps[row]))
        sizes += parts(target_kind, p, q)
        losses[row] = [element(a, -b, -c) for a, b, c in zip(p.p, p.surprise, q.surprise, strict=True)]
        dx[row] = q.gradient([times(scale, a) for scale, a in zip(s[row], p.p, strict=True)])
        if target_kind != "counts":
            dt[row] = by_target(target_kind, list(s[row]), p, q)
            target_sizes += target_parts(target_kind, list(s[row]), p, q)
    grads = {"input": as_input(dx)}
    if target_kind != "counts":
        grads["target"] = as_input(dt)
    reference = reducing.finish(as_input(losses), mp.mpf(x.size), x.size, grads)
    return replace(reference, sizes=reducing.sizes(sizes, reference) | {"target": max(target_sizes)})
