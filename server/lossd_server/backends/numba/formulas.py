"""The elementwise losses: one formula each, giving (loss, d loss / d input, d loss / d target) of a vector.

Weights, scales, reductions, dtypes and layouts are the kernel's affair.
"""

from __future__ import annotations

from typing import Any

from lossd_server.backends.numba.elementary import exp_of_sum, log, log1p
from lossd_server.backends.numba.lanes import absolute, larger, select
from lossd_server.backends.numba.sums import times
from lossd_server.backends.numba.table import BCE
from lossd_server.jit import part


@part
def bce(p: Any, t: Any) -> Any:
    """−[t·max(ln p, −100) + (1 − t)·max(ln(1 − p), −100)], as torch.nn.functional.binary_cross_entropy."""
    hit = larger(log(p), p * 0.0 - 100.0)
    miss = larger(log1p(p * -1.0), p * 0.0 - 100.0)
    rest = 1.0 - t
    loss = (t * hit + rest * miss) * -1.0
    return loss, (p - t) / larger(p * (1.0 - p), p * 0.0 + 1e-12), miss - hit


@part
def bce_with_logits(x: Any, t: Any, positive: Any) -> Any:
    """pw·t·sp(−x) + (1 − t)·sp(x), sp(v) = max(v, 0) + log1p(exp(−|v|)): both terms ≥ 0, nothing cancels."""
    zero = t * 0.0
    e = exp_of_sum(absolute(x) * -1.0, zero)
    tail = log1p(e)
    above = larger(x, zero) + tail
    below = larger(x * -1.0, zero) + tail
    hit = positive * t
    miss = 1.0 - t
    # σ(x) and σ(−x): 1/(1 + e) on the side of x, e/(1 + e) on the other.
    near = 1.0 / (e + 1.0)
    far = e * near
    right = x >= 0.0
    slope = miss * select(right, near, far) - hit * select(right, far, near)
    return times(hit, below) + times(miss, above), slope, times(positive, below) - above


@part
def element(formula: int, x: Any, t: Any, positive: Any) -> Any:
    """A formula by its number."""
    if formula == BCE:
        return bce(x, t)
    return bce_with_logits(x, t, positive)


@part
def outside(formula: int, x: Any, t: Any) -> Any:
    """Lanes whose values the formula does not take: p or t of BCE outside [0, 1], or NaN."""
    if formula == BCE:
        return (x < 0.0) | (x > 1.0) | (x != x) | (t < 0.0) | (t > 1.0) | (t != t)
    return x < -float("inf")
