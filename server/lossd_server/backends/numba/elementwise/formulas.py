"""Elementwise formulas: losses and activations of a vector, as (value, d value / d input, d value / d target).

Each has a function of its own, a run in `runs` and a line in `padding`. Weights, scales, reductions, dtypes and layouts
are the kernel's.
"""

from __future__ import annotations

from typing import Any

from lossd_server.backends.numba.batch_table import (
    BCE,
    BCE_WITH_LOGITS,
    KL,
    LOG_PROBABILITIES,
    PROBABILITIES,
    SELF_INFORMATION,
)
from lossd_server.backends.numba.simd.exponential import falling_exp
from lossd_server.backends.numba.simd.logarithm import log
from lossd_server.backends.numba.simd.math import exp, log1p, log1p_of_share, log_ratio, product, times
from lossd_server.backends.numba.simd.operations import absolute, larger, select
from lossd_server.jobs.jit import device_function, llvm_inlined

INFINITY = float("inf")


@llvm_inlined
def bce(p: Any, t: Any) -> Any:
    """−[t·max(ln p, −100) + (1 − t)·max(ln(1 − p), −100)], as torch.nn.functional.binary_cross_entropy."""
    hit = larger(log(p), p * 0.0 - 100.0)
    miss = larger(log1p(p * -1.0), p * 0.0 - 100.0)
    rest = 1.0 - t
    loss = 0.0 - (t * hit + rest * miss)
    return loss, (p - t) / larger(p * (1.0 - p), p * 0.0 + 1e-12), miss - hit


@llvm_inlined
def sides(x: Any) -> Any:
    """σ(x), σ(−x) and log1p(exp(−|x|)): nothing cancels."""
    e = falling_exp(absolute(x) * -1.0)
    near = 1.0 / (e + 1.0)
    far = e * near
    right = x >= 0.0
    return select(right, near, far), select(right, far, near), log1p_of_share(e)


@llvm_inlined
def bce_with_logits(x: Any, t: Any, positive: Any, weighted: bool) -> Any:
    """pw·t·sp(−x) + (1 − t)·sp(x), sp(v) = max(v, 0) + log1p(exp(−|v|)): both terms ≥ 0, nothing cancels."""
    right, left, tail = sides(x)
    above = larger(x, t * 0.0)
    below = larger(x * -1.0, t * 0.0)
    miss = 1.0 - t
    if not weighted:
        return times(t, below + tail) + times(miss, above + tail), miss * right - t * left, x * -1.0
    hit = product(t, positive)
    loss = product(hit, below + tail) + times(miss, above + tail)
    # d/dt without the difference of the two tails: sp(−x) − sp(x) = −x.
    slope = miss * right - product(hit, left)
    return loss, slope, (product(positive, below) - above) + product(positive - 1.0, tail)


@llvm_inlined
def log_quotient(v: Any, u: Any) -> Any:
    """v − u of two logarithms, +∞ where both are −∞: what a target of 0 then annihilates, and its slope's limit."""
    return select((v == -INFINITY) & (u == -INFINITY), INFINITY, v - u)


@llvm_inlined
def kl(x: Any, t: Any, input_kind: int, target_kind: int) -> Any:
    """t·(ln t − ln q), either operand as probabilities or their logarithms."""
    of_probabilities = input_kind == PROBABILITIES
    u = log(x) if of_probabilities else x
    if target_kind == LOG_PROBABILITIES:
        p = exp(t)
        gap = log_quotient(t, u)
    else:
        p = t
        v = log(t)
        gap = log_quotient(v, u)
        if of_probabilities:
            gap = log_ratio(t, x, x * 0.0, gap)
    slope = p * -1.0
    if of_probabilities:
        slope = times(slope, 1.0 / x)
    target_slope = gap + 1.0
    if target_kind == LOG_PROBABILITIES:
        target_slope = times(p, target_slope)
    return times(p, gap), slope, target_slope


# Each as a run calls it: compute(job, x, t, positive weight); t is 0 where there is no target.


@llvm_inlined
def bce_element(job: Any, x: Any, t: Any, positive: Any) -> Any:
    return bce(x, t)


@llvm_inlined
def bce_with_logits_element(job: Any, x: Any, t: Any, positive: Any) -> Any:
    return bce_with_logits(x, t, positive, job.pos_weight != 0)


@llvm_inlined
def kl_element(job: Any, x: Any, t: Any, positive: Any) -> Any:
    return kl(x, t, job.input_kind, job.target_kind)


@llvm_inlined
def self_information_element(job: Any, x: Any, t: Any, positive: Any) -> Any:
    return 0.0 - log(x), -1.0 / x, t


@llvm_inlined
def sigmoid_element(job: Any, x: Any, t: Any, positive: Any) -> Any:
    right, left, _ = sides(x)
    return right, right * left, t


@llvm_inlined
def log_sigmoid_element(job: Any, x: Any, t: Any, positive: Any) -> Any:
    _, left, tail = sides(x)
    return 0.0 - (larger(x * -1.0, t) + tail), left, t


@device_function
def padding(job: Any) -> tuple[float, float]:
    """(input, target) whose loss is 0."""
    if job.formula == BCE_WITH_LOGITS:
        return -INFINITY, 0.0
    if job.formula == KL and job.target_kind == LOG_PROBABILITIES:
        return 0.0, -INFINITY
    return (1.0 if job.formula == SELF_INFORMATION else 0.0), 0.0


@llvm_inlined
def outside(job: Any, x: Any, t: Any) -> Any:
    """Lanes whose values the formula does not take: p or t of BCE outside [0, 1], or NaN."""
    if job.formula == BCE:
        return (x < 0.0) | (x > 1.0) | (x != x) | (t < 0.0) | (t > 1.0) | (t != t)
    return x < -INFINITY
