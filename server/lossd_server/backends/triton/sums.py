"""Rows with a sum and no softmax: Entropy of probabilities and of counts.

Probabilities: H = −Σ p·ln p, dp = −s·(ln p + 1). Counts k: with m = k_a their maximum, e_c = k_c/m is what exp(x_c − m)
is to logits. So with rest = Σ_{c≠a} e_c, d = 1 + rest, h_c = −ln e_c: H = log1p(rest) + Σ e·h/d, in which no term is
negative, and dk_c = s·(h_c − Σ e·h/d)/(m·d).
"""

from __future__ import annotations

import triton
import triton.language as tl

from lossd_server.backends.triton.arithmetic import divide, log, log1p, times
from lossd_server.backends.triton.memory import load, load_number, load_rows, store
from lossd_server.backends.triton.table import (
    CLASSES,
    COUNTS,
    INNER,
    INPUT,
    INPUT_DTYPE,
    INPUT_GRADIENT,
    INPUT_GRADIENT_DTYPE,
    LOSSES,
    MODE,
    NO_FAULT,
    ROW_UPSTREAM,
    ROW_WEIGHT,
    ROWS,
    SCALE_BITS,
    WORDS,
)


@triton.jit
def depth(x: tl.tensor, e: tl.tensor, m: tl.tensor, COMPUTE: tl.constexpr) -> tl.tensor:
    """−ln e, e = x/m: from m/2 to m by the difference x − m, which is exact there: [TILE, BLOCK]."""
    m = m[:, None]
    near = (x + x > m) & (x <= m)
    return -tl.where(near, log1p(divide(x - m, m, COMPUTE), COMPUTE), log(e, COMPUTE))


@triton.jit(do_not_specialize=["item", "work"])
def row_sums(
    words: tl.tensor,
    out: tl.tensor,
    item: tl.tensor,
    work: tl.tensor,
    COMPUTE: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One program: TILE rows of one job, BLOCK classes at a time. Arguments as of `softmax_rows`."""
    number = item + tl.program_id(0)
    job = words + tl.load(words + work + 2 * number) * WORDS
    base = words.to(tl.pointer_type(tl.uint8))
    results = out.to(tl.pointer_type(tl.uint8))
    counts = tl.load(job + MODE) == COUNTS
    classes = tl.load(job + CLASSES)
    inner = tl.load(job + INNER)
    x_offset = tl.load(job + INPUT)
    x_dtype = tl.load(job + INPUT_DTYPE)
    row = tl.load(words + work + 2 * number + 1) * TILE + tl.arange(0, TILE)
    live = row < tl.load(job + ROWS)
    first = row // inner * classes * inner + row % inner

    # Counts: pass 1, the maximum and its first index; pass 2, the sum of the others over it.
    m = tl.full([TILE], 1.0, COMPUTE)
    a = tl.full([TILE], -1, tl.int64)
    rest = tl.zeros([TILE], COMPUTE)
    negative = tl.full([TILE], NO_FAULT, tl.int64)
    empty = tl.full([TILE], NO_FAULT, tl.int64)
    if counts:
        best = tl.full([TILE, BLOCK], -1.0, COMPUTE)
        best_at = tl.full([TILE, BLOCK], NO_FAULT, tl.int64)
        for begin in range(0, classes, BLOCK):
            c = begin + tl.arange(0, BLOCK).to(tl.int64)
            mask = live[:, None] & (c < classes)[None, :]
            index = first[:, None] + (c * inner)[None, :]
            k = load(base, x_offset, index, mask, x_dtype, COMPUTE)
            wrong = mask & ((k >= 0) == 0)
            negative = tl.minimum(negative, tl.min(tl.where(wrong, index, NO_FAULT), 1))
            better = mask & (k > best)
            best_at = tl.where(better, c[None, :], best_at)
            best = tl.where(better, k, best)
        m = tl.max(best, 1)
        a = tl.min(tl.where(best == m[:, None], best_at, NO_FAULT), 1)
        empty = tl.where(live & (m <= 0), row, empty)
        rest_lanes = tl.zeros([TILE, BLOCK], COMPUTE)
        for begin in range(0, classes, BLOCK):
            c = begin + tl.arange(0, BLOCK).to(tl.int64)
            mask = live[:, None] & (c < classes)[None, :] & (c[None, :] != a[:, None])
            index = first[:, None] + (c * inner)[None, :]
            k = load(base, x_offset, index, mask, x_dtype, COMPUTE)
            rest_lanes += tl.where(mask, divide(k, m[:, None], COMPUTE), 0.0)
        rest = tl.sum(rest_lanes, 1)
    tl.store(out + 2 * number, tl.min(negative, 0))
    tl.store(out + 2 * number + 1, tl.min(empty, 0))
    d = 1.0 + rest

    # Pass 3: H. For probabilities m = d = 1 and rest = 0.
    lanes = tl.zeros([TILE, BLOCK], COMPUTE)
    for begin in range(0, classes, BLOCK):
        c = begin + tl.arange(0, BLOCK).to(tl.int64)
        mask = live[:, None] & (c < classes)[None, :]
        index = first[:, None] + (c * inner)[None, :]
        x = load(base, x_offset, index, mask, x_dtype, COMPUTE)
        e = divide(x, m[:, None], COMPUTE)
        lanes += tl.where(mask, times(e, depth(x, e, m, COMPUTE)), 0.0)
    mean_depth = divide(tl.sum(lanes, 1), d, COMPUTE)
    entropy = log1p(rest, COMPUTE) + mean_depth
    weight = load_rows(base, tl.load(job + ROW_WEIGHT), row, live)
    losses = (results + tl.load(job + LOSSES)).to(tl.pointer_type(tl.float64))
    tl.store(losses + row, times(weight, entropy.to(tl.float64)), mask=live)

    # Pass 4: the gradient.
    dx_offset = tl.load(job + INPUT_GRADIENT)
    if dx_offset >= 0:
        upstream = load_rows(base, tl.load(job + ROW_UPSTREAM), row, live)
        scale = times(load_number(job + SCALE_BITS), times(weight, upstream)).to(COMPUTE)
        less = tl.full([TILE], 1.0, COMPUTE)
        share = tl.full([TILE], 1.0, COMPUTE)
        if counts:
            less = mean_depth
            share = divide(divide(share, d, COMPUTE), m, COMPUTE)
        for begin in range(0, classes, BLOCK):
            c = begin + tl.arange(0, BLOCK).to(tl.int64)
            mask = live[:, None] & (c < classes)[None, :]
            index = first[:, None] + (c * inner)[None, :]
            x = load(base, x_offset, index, mask, x_dtype, COMPUTE)
            h = depth(x, divide(x, m[:, None], COMPUTE), m, COMPUTE)
            dx = times(scale[:, None], (h - less[:, None]) * share[:, None])
            store(results, dx_offset, index, mask, tl.load(job + INPUT_GRADIENT_DTYPE), dx)
