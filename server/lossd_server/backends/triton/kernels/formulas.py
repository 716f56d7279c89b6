"""The elementwise losses and activations: one formula each, giving (value, d/d input, d/d target), all [RUN].

Weights, scales, reductions, dtypes and layouts are the kernel's affair. A new one is a function, and a line of
`element_loss`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lossd_server.backends.triton.descriptor import (
    BCE,
    BCE_WITH_LOGITS,
    INPUT_KIND,
    KL,
    LOG_SIGMOID,
    PROBABILITIES,
    SELF_INFORMATION,
    TARGET_KIND,
)
from lossd_server.backends.triton.kernels.arithmetic import (
    divide,
    exp,
    exp_nonpositive,
    log,
    log1p,
    log_of_sum,
    quotient,
    reciprocal,
    times,
)
from lossd_server.backends.triton.kernels.work_item import WorkItem


@triton.jit
def bce(p: tl.tensor, t: tl.tensor, COMPUTE: tl.constexpr) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """−[t·max(ln p, −100) + (1 − t)·max(ln(1 − p), −100)]."""
    hit = log(p, COMPUTE)
    hit = tl.where(hit < -100.0, -100.0, hit)
    miss = log1p(-p, COMPUTE)
    miss = tl.where(miss < -100.0, -100.0, miss)
    loss = -(t * hit + (1.0 - t) * miss)
    spread = p * (1.0 - p)
    least = tl.full([], 1e-12, COMPUTE)
    spread = tl.where(spread < least, least, spread)
    return loss, divide(p - t, spread, COMPUTE), miss - hit


@triton.jit
def sigmoid_parts(x: tl.tensor, COMPUTE: tl.constexpr) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """σ(x), σ(−x) and log1p(z), z = exp(−|x|): nothing cancels."""
    if tl.float32 == COMPUTE:
        z = exp_nonpositive(-tl.abs(x))
        near = reciprocal(1.0 + z)
        far = z * near
        tail = log_of_sum(z, near)
    else:
        z = exp(-tl.abs(x), COMPUTE)
        near = 1.0 / (1.0 + z)
        far = z / (1.0 + z)
        tail = log1p(z, COMPUTE)
    return tl.where(x > 0, near, far), tl.where(x > 0, far, near), tail


@triton.jit
def bce_with_logits(
    x: tl.tensor, t: tl.tensor, pw: tl.tensor, COMPUTE: tl.constexpr, WEIGHTED: tl.constexpr
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """pw·t·sp(−x) + (1 − t)·sp(x), sp(x) = max(x, 0) + log1p(z); d/dt takes sp(−x) − sp(x) = −x out."""
    above = tl.where(x > 0, x, 0.0)
    below = tl.where(x < 0, -x, 0.0)
    p, q, tail = sigmoid_parts(x, COMPUTE)
    if WEIGHTED:
        t_pw = times(pw, t)
        loss = times(t_pw, below + tail) + times(1.0 - t, above + tail)
        dx = times(1.0 - t, p) - times(t_pw, q)
        dt = times(pw, below) - above + times(pw - 1.0, tail)
    else:
        # A NaN shows through one of the two factors, which are not both 0.
        hit = tl.where(t == 0, 0.0, t * (below + tail))
        loss = hit + tl.where(t == 1, 0.0, (1.0 - t) * (above + tail))
        dx = (1.0 - t) * p - t * q
        dt = -x
    return loss, dx, dt


@triton.jit
def log_ratio(p: tl.tensor, h: tl.tensor, g: tl.tensor) -> tl.tensor:
    """ln p − ln q, given h = −ln q and g = −ln p; 0 at p = 0, where a factor p annihilates it, unless one is NaN."""
    return tl.where((p == 0) & (h == h) & (g == g), 0.0, h - g)


@triton.jit
def slope_of_probability(p: tl.tensor, h: tl.tensor, ratio: tl.tensor) -> tl.tensor:
    """d/dp of p·(ln p − ln q), h = −ln q; at p = 0 its one-sided limit."""
    limit = tl.where(h == float("inf"), float("inf"), float("-inf"))
    return tl.where((p == 0) & (h == h), limit, 1.0 + ratio)


@triton.jit
def kl(item: WorkItem, x: tl.tensor, t: tl.tensor, COMPUTE: tl.constexpr) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """p·(ln p − ln q), x and t being q or ln q, p or ln p. Two probabilities near each other: log1p((p − q)/q)."""
    linear = tl.load(item.job + INPUT_KIND) == PROBABILITIES
    linear_target = tl.load(item.job + TARGET_KIND) == PROBABILITIES
    h = -x
    if linear:
        h = -log(x, COMPUTE)
    p = t
    g = -t
    if linear_target:
        g = -log(t, COMPUTE)
    else:
        p = exp(t, COMPUTE)
    ratio = log_ratio(p, h, g)
    if linear & linear_target:
        near = (p + p > x) & (x + x > p)
        ratio = tl.where(near, log1p(divide(p - x, x, COMPUTE), COMPUTE), ratio)
    dx = -p
    if linear:
        dx = -quotient(p, x, COMPUTE)
    dt = times(p, 1.0 + ratio)
    if linear_target:
        dt = slope_of_probability(p, h, ratio)
    return times(p, ratio), dx, dt


@triton.jit
def element_loss(
    item: WorkItem,
    formula: tl.tensor,
    x: tl.tensor,
    t: tl.tensor,
    pw: tl.tensor,
    COMPUTE: tl.constexpr,
    WEIGHTED: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """A formula: a number read from the job, or known to the compiler."""
    dt = tl.zeros(x.shape, COMPUTE)
    if formula == BCE:
        value, dx, dt = bce(x, t, COMPUTE)
    elif formula == BCE_WITH_LOGITS:
        value, dx, dt = bce_with_logits(x, t, pw, COMPUTE, WEIGHTED)
    elif formula == KL:
        value, dx, dt = kl(item, x, t, COMPUTE)
    elif formula == SELF_INFORMATION:
        value = -log(x, COMPUTE)
        dx = divide(tl.full(x.shape, -1.0, COMPUTE), x, COMPUTE)
    elif formula == LOG_SIGMOID:
        _, dx, tail = sigmoid_parts(x, COMPUTE)
        value = tl.where(x < 0, x, 0.0) - tail
    else:
        value, q, _ = sigmoid_parts(x, COMPUTE)
        dx = value * q
    return value, dx, dt


@triton.jit
def invalid_elements(formula: tl.tensor, x: tl.tensor, t: tl.tensor) -> tuple[tl.tensor, tl.tensor]:
    """Elements that the formula does not take: BCE's input and target outside [0, 1], or NaN."""
    bad_input = x < float("-inf")
    bad_target = bad_input
    if formula == BCE:
        bad_input = ((x >= 0) & (x <= 1)) == 0
        bad_target = ((t >= 0) & (t <= 1)) == 0
    return bad_input, bad_target
