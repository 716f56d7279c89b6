"""One loss an element: BCE and BCEWithLogits, by runs of 4,096 elements whose losses are added in float64.

BCEWithLogits with z = exp(−|x|), sp(x) = max(x, 0) + log1p(z): l = w·[pw·t·sp(−x) + (1 − t)·sp(x)]; its target's
gradient takes sp(−x) − sp(x) = −x out, so that it does not cancel.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lossd_server.backends.triton.arithmetic import divide, exp_of_negative, log, log1p, times
from lossd_server.backends.triton.memory import load, load_number, load_view, store
from lossd_server.backends.triton.table import (
    BCE,
    CHUNK,
    FLOAT32,
    FLOAT64,
    INPUT,
    INPUT_DTYPE,
    INPUT_GRADIENT,
    INPUT_GRADIENT_DTYPE,
    LOSSES,
    MODE,
    NO_FAULT,
    POS_WEIGHT,
    ROWS,
    RUN_SUMS,
    RUNS,
    SCALE_BITS,
    TARGET,
    TARGET_DTYPE,
    TARGET_GRADIENT,
    TARGET_GRADIENT_DTYPE,
    UPSTREAM,
    WEIGHT,
    WORDS,
)


@triton.jit
def bce(p: tl.tensor, t: tl.tensor, COMPUTE: tl.constexpr) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Loss, d/dp, d/dt before weights: [RUN] each."""
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
def bce_with_logits(
    x: tl.tensor, t: tl.tensor, pw: tl.tensor, COMPUTE: tl.constexpr
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Loss, d/dx, d/dt before weights: [RUN] each."""
    above = tl.where(x > 0, x, 0.0)
    below = tl.where(x < 0, -x, 0.0)
    z = exp_of_negative(-tl.abs(x), COMPUTE)
    tail = log1p(z, COMPUTE)
    loss = times(times(pw, t), below + tail) + times(1.0 - t, above + tail)
    far = divide(z, 1.0 + z, COMPUTE)  # σ(−|x|)
    near = divide(tl.full(z.shape, 1.0, COMPUTE), 1.0 + z, COMPUTE)
    p = tl.where(x > 0, near, far)
    q = tl.where(x > 0, far, near)
    dx = times(1.0 - t, p) - times(times(pw, t), q)
    dt = times(pw, below) - above + times(pw - 1.0, tail)
    return loss, dx, dt


@triton.jit(do_not_specialize=["item", "work"])
def elementwise_runs(
    words: tl.tensor, out: tl.tensor, item: tl.tensor, work: tl.tensor, COMPUTE: tl.constexpr, RUN: tl.constexpr
) -> None:
    """One program: one run of one chunk of one job. Arguments as of `softmax_rows`."""
    number = item + tl.program_id(0)
    job = words + tl.load(words + work + 2 * number) * WORDS
    base = words.to(tl.pointer_type(tl.uint8))
    results = out.to(tl.pointer_type(tl.uint8))
    tile = tl.load(words + work + 2 * number + 1)
    runs = tl.load(job + RUNS)
    chunk = tl.load(job + CHUNK)
    index = tile // runs * chunk + tile % runs * RUN + tl.arange(0, RUN)
    mask = (index < (tile // runs + 1) * chunk) & (index < tl.load(job + ROWS))
    x = load(base, tl.load(job + INPUT), index, mask, tl.load(job + INPUT_DTYPE), COMPUTE)
    t = load(base, tl.load(job + TARGET), index, mask, tl.load(job + TARGET_DTYPE), COMPUTE)
    pw = load_view(base, job + POS_WEIGHT, index, mask, COMPUTE)
    w = load_view(base, job + WEIGHT, index, mask, COMPUTE)

    bad_input = index < 0
    bad_target = index < 0
    if tl.load(job + MODE) == BCE:
        bad_input = mask & (((x >= 0) & (x <= 1)) == 0)
        bad_target = mask & (((t >= 0) & (t <= 1)) == 0)
        loss, dx, dt = bce(x, t, COMPUTE)
    else:
        loss, dx, dt = bce_with_logits(x, t, pw, COMPUTE)
    tl.store(out + 2 * number, tl.min(tl.where(bad_input, index, NO_FAULT), 0))
    tl.store(out + 2 * number + 1, tl.min(tl.where(bad_target, index, NO_FAULT), 0))

    loss = times(w, loss)
    run_sums = (results + tl.load(job + RUN_SUMS)).to(tl.pointer_type(tl.float64))
    tl.store(run_sums + tile, tl.sum(tl.where(mask, loss.to(tl.float64), 0.0), 0))
    losses = tl.load(job + LOSSES)
    if losses >= 0:
        store(results, losses, index, mask, FLOAT64 if tl.float64 == COMPUTE else FLOAT32, loss)
    dx_offset = tl.load(job + INPUT_GRADIENT)
    dt_offset = tl.load(job + TARGET_GRADIENT)
    if (dx_offset >= 0) | (dt_offset >= 0):
        upstream = load_view(base, job + UPSTREAM, index, mask, COMPUTE)
        scale = times(times(load_number(job + SCALE_BITS).to(COMPUTE), upstream), w)
        if dx_offset >= 0:
            store(results, dx_offset, index, mask, tl.load(job + INPUT_GRADIENT_DTYPE), times(scale, dx))
        if dt_offset >= 0:
            store(results, dt_offset, index, mask, tl.load(job + TARGET_GRADIENT_DTYPE), times(scale, dt))
