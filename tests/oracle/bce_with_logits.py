"""BCEWithLogits: w·[pw·t·sp(−x) + (1−t)·sp(x)], sp(v) = ln(1 + exp v)."""

from __future__ import annotations

from typing import Any

from tests.oracle.elementwise import elementwise
from tests.oracle.exact import INF, NAN, ONE, ZERO, Number, log1p, mp, times
from tests.oracle.reducing import Reducing, Reference


def softplus(v: Number) -> Number:
    """ln(1 + exp v): exactly 0 at −∞ and ∞ at ∞."""
    if mp.isnan(v):
        return NAN
    if abs(v) == INF:
        return INF if v > 0 else ZERO
    return max(v, ZERO) + log1p(mp.exp(-abs(v)))


def sigmoid(v: Number) -> Number:
    """1 / (1 + exp(−v))."""
    if mp.isnan(v):
        return NAN
    if abs(v) == INF:
        return ONE if v > 0 else ZERO
    return ONE / (ONE + mp.exp(-v))


def element(x: Number, t: Number, w: Number, pw: Number) -> tuple[Number, Number, Number]:
    """Loss, d/dx, d/dt of one element."""
    loss = times(pw, t, softplus(-x)) + times(ONE - t, softplus(x))
    by_input = times(ONE - t, sigmoid(x)) - times(pw, t, sigmoid(-x))
    by_target = times(pw, softplus(-x)) - softplus(x)
    return times(w, loss), times(w, by_input), times(w, by_target)


def bce_with_logits(input: Any, target: Any, *, weight: Any = None, pos_weight: Any = None, **shared: Any) -> Reference:
    """input, target: one shape; weight and pos_weight broadcast to it."""
    return elementwise(element, input, target, (weight, pos_weight), Reducing(**shared))
