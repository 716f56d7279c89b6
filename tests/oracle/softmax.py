"""softmax of one row in 50 digits: semantics' closed form, in which nothing cancels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.oracle.exact import INF, NAN, ONE, ZERO, Number, log1p, mp, times, total


@dataclass(frozen=True)
class Softmax:
    """p[c], −ln p[c], the first index `top` of the maximum, 1 − p[top], and ln Σ exp x[c]."""

    p: list[Number]
    surprise: list[Number]
    top: int
    rest: Number
    lse: Number

    @property
    def entropy(self) -> Number:
        """Σ p·(−ln p)."""
        return total(times(p, surprise) for p, surprise in zip(self.p, self.surprise, strict=True))

    def gradient(self, u: Sequence[Number]) -> list[Number]:
        """d/dx of Σ u[c]·(−ln p[c]): U·p[c] − u[c], U = Σ u, at the top without the difference of near equals."""
        whole = total(u)
        result = [times(whole, p) - share for p, share in zip(self.p, u, strict=True)]
        others = total(share for c, share in enumerate(u) if c != self.top)
        result[self.top] = times(others, self.p[self.top]) - times(u[self.top], self.rest)
        return result


def softmax(x: Sequence[Number]) -> Softmax:
    """Of one row of C logits. NaN, +∞ or nothing but −∞ in it: NaN all along."""
    unknown = Softmax([NAN] * len(x), [NAN] * len(x), 0, NAN, NAN)
    if any(mp.isnan(value) for value in x):
        return unknown
    top = max(range(len(x)), key=lambda c: (x[c], -c))
    m = x[top]
    if abs(m) == INF:
        return unknown
    e = [ZERO if value == -INF else mp.exp(value - m) for value in x]
    rest = total(value for c, value in enumerate(e) if c != top)
    d = ONE + rest
    surprise = [(m - value) + log1p(rest) for value in x]
    return Softmax([value / d for value in e], surprise, top, rest / d, m + log1p(rest))
