"""What one row of an operand stands for by its kind: a distribution q, its −ln q, and the way back of a gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from tests.oracle.exact import INF, ONE, ZERO, Number, log, mp, times, total
from tests.oracle.softmax import softmax


class Distribution(Protocol):
    """q[c] and −ln q[c] of one row."""

    @property
    def p(self) -> list[Number]: ...

    @property
    def surprise(self) -> list[Number]: ...

    def gradient(self, u: Sequence[Number]) -> list[Number]:
        """d/d entry of Σ u[c]·(−ln q[c])."""
        ...


class LogProbabilities:
    """q = exp(entry); −∞ is probability 0."""

    def __init__(self, entries: Sequence[Number]) -> None:
        self.p = [ZERO if value == -INF else mp.exp(value) for value in entries]
        self.surprise = [-value for value in entries]

    def gradient(self, u: Sequence[Number]) -> list[Number]:
        return [-share for share in u]


class Probabilities:
    """The entries themselves: neither normalised nor clamped; −ln q is NaN below 0."""

    def __init__(self, entries: Sequence[Number]) -> None:
        self.p = list(entries)
        self.surprise = [-log(value) for value in entries]

    def gradient(self, u: Sequence[Number]) -> list[Number]:
        return [-times(share, inverse(q)) for share, q in zip(u, self.p, strict=True)]


class Counts:
    """q = k / Σ k."""

    def __init__(self, entries: Sequence[Number]) -> None:
        self.k, self.sum = list(entries), total(entries)
        self.p = [value / self.sum for value in entries]
        self.surprise = [-log(value) for value in self.p]

    def gradient(self, u: Sequence[Number]) -> list[Number]:
        shared = total(u) / self.sum
        result = [shared - times(share, inverse(k)) for share, k in zip(u, self.k, strict=True)]
        top = max(range(len(u)), key=lambda c: (self.k[c], -c))
        others = total(share for c, share in enumerate(u) if c != top)
        result[top] = others / self.sum - times(u[top], (self.sum - self.k[top]) / self.sum, inverse(self.k[top]))
        return result


def inverse(a: Number) -> Number:
    """1/a: +∞ at 0."""
    return INF if a == 0 else ONE / a


KINDS: dict[str, Callable[[Sequence[Number]], Distribution]] = {
    "logits": softmax,
    "log_probabilities": LogProbabilities,
    "probabilities": Probabilities,
    "counts": Counts,
}
