"""Rows with a softmax: CrossEntropy against indices or distributions, and Entropy of logits.

With a = the first index of the maximum m: e_c = exp(x_c − m), rest = Σ_{c≠a} e_c, d = 1 + rest, and
−log p_c = (m − x_c) + log1p(rest): two terms ≥ 0. With u_c the weight of class c in the row (`mass`), the loss is
Σ u·(m − x) + (Σ u)·log1p(rest) and the gradient (Σ u)·p_c − u_c, at c = a (Σ_{k≠a} u_k)/d − u_a·rest/d.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lossd_server.backends.triton.arithmetic import divide, exp_of_negative, log1p, times
from lossd_server.backends.triton.memory import load, load_number, load_rows, store
from lossd_server.backends.triton.table import (
    CLASS_WEIGHT,
    CLASSES,
    DISTRIBUTION,
    ENTROPY,
    IGNORE_INDEX,
    INDEX,
    INNER,
    INPUT,
    INPUT_DTYPE,
    INPUT_GRADIENT,
    INPUT_GRADIENT_DTYPE,
    KEEP_BITS,
    LOSSES,
    MODE,
    NO_FAULT,
    ROW_UPSTREAM,
    ROW_WEIGHT,
    ROWS,
    SCALE_BITS,
    SMOOTH_BITS,
    TARGET,
    TARGET_DTYPE,
    TARGET_GRADIENT,
    TARGET_GRADIENT_DTYPE,
    WORDS,
)


@triton.jit
def class_weight(base: tl.tensor, job: tl.tensor, c: tl.tensor, COMPUTE: tl.constexpr) -> tl.tensor:
    """w_c, 1 where there are none: [BLOCK]."""
    w = tl.full(c.shape, 1.0, COMPUTE)
    offset = tl.load(job + CLASS_WEIGHT)
    if offset >= 0:
        w = tl.load((base + offset).to(tl.pointer_type(COMPUTE)) + c, mask=c < tl.load(job + CLASSES), other=1.0)
    return w


@triton.jit
def mass(
    base: tl.tensor,
    job: tl.tensor,
    y: tl.tensor,
    c: tl.tensor,
    index: tl.tensor,
    mask: tl.tensor,
    COMPUTE: tl.constexpr,
) -> tl.tensor:
    """u_c = w_c·t'_c, t' = (1 − ε)·t + ε/C, t = [c = y] or the target's: [TILE, BLOCK]."""
    keep = load_number(job + KEEP_BITS).to(COMPUTE)
    smooth = load_number(job + SMOOTH_BITS).to(COMPUTE)
    w = class_weight(base, job, c, COMPUTE)[None, :]
    if tl.load(job + MODE) == DISTRIBUTION:
        t = load(base, tl.load(job + TARGET), index, mask, tl.load(job + TARGET_DTYPE), COMPUTE)
        u = times(w, times(keep, t) + smooth)
    else:
        u = tl.where(c[None, :] == y[:, None], times(keep, w), 0.0)
        if smooth != 0:  # where ε is 0 the weight of no other class counts, whatever it is
            u += smooth * w
    return tl.where(mask, u, 0.0)


@triton.jit(do_not_specialize=["item", "work"])
def softmax_rows(
    words: tl.tensor,
    out: tl.tensor,
    item: tl.tensor,
    work: tl.tensor,
    COMPUTE: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One program: TILE rows of one job, BLOCK classes at a time.

    words: int64, descriptors, work list, operands. out: int64, two fault words a work item, results. item: the first
    work item of this launch. work: the work list's first word.
    """
    number = item + tl.program_id(0)
    job = words + tl.load(words + work + 2 * number) * WORDS
    base = words.to(tl.pointer_type(tl.uint8))
    results = out.to(tl.pointer_type(tl.uint8))
    mode = tl.load(job + MODE)
    classes = tl.load(job + CLASSES)
    inner = tl.load(job + INNER)
    x_offset = tl.load(job + INPUT)
    x_dtype = tl.load(job + INPUT_DTYPE)
    row = tl.load(words + work + 2 * number + 1) * TILE + tl.arange(0, TILE)
    live = row < tl.load(job + ROWS)
    first = row // inner * classes * inner + row % inner

    # The target's class; a fault or an ignored row drops the row.
    y = tl.full([TILE], -1, tl.int64)
    dropped = row < 0
    fault = tl.full([TILE], NO_FAULT, tl.int64)
    if mode == INDEX:
        start = (base + tl.load(job + TARGET)).to(tl.pointer_type(tl.int64))
        y = tl.load(start + row, mask=live, other=0)
        ignored = y == tl.load(job + IGNORE_INDEX)
        outside = live & ((y < 0) | (y >= classes)) & (ignored == 0)
        fault = tl.where(outside, row, fault)
        dropped = ignored | outside
    tl.store(out + 2 * number, tl.min(fault, 0))
    tl.store(out + 2 * number + 1, NO_FAULT)

    # Pass 1: the maximum and its first index, by lane; NaN apart, since a maximum may drop it.
    best = tl.full([TILE, BLOCK], float("-inf"), COMPUTE)
    best_at = tl.full([TILE, BLOCK], NO_FAULT, tl.int64)
    nans = tl.zeros([TILE, BLOCK], tl.int32)
    for begin in range(0, classes, BLOCK):
        c = begin + tl.arange(0, BLOCK).to(tl.int64)
        mask = live[:, None] & (c < classes)[None, :]
        index = first[:, None] + (c * inner)[None, :]
        x = tl.where(mask, load(base, x_offset, index, mask, x_dtype, COMPUTE), float("-inf"))
        nans += (x != x).to(tl.int32)
        better = x > best
        best_at = tl.where(better, c[None, :], best_at)
        best = tl.where(better, x, best)
    m = tl.max(best, 1)
    a = tl.min(tl.where(best == m[:, None], best_at, NO_FAULT), 1)
    undefined = (tl.sum(nans, 1) > 0) | (m == float("inf")) | (m == float("-inf"))

    # Pass 2: rest, Σ u, Σ_{k≠a} u, and Σ u·(m − x); for the entropy of logits Σ e·(m − x).
    rest_lanes = tl.zeros([TILE, BLOCK], COMPUTE)
    total_lanes = tl.zeros([TILE, BLOCK], COMPUTE)
    others_lanes = tl.zeros([TILE, BLOCK], COMPUTE)
    gaps_lanes = tl.zeros([TILE, BLOCK], COMPUTE)
    for begin in range(0, classes, BLOCK):
        c = begin + tl.arange(0, BLOCK).to(tl.int64)
        mask = live[:, None] & (c < classes)[None, :]
        index = first[:, None] + (c * inner)[None, :]
        x = tl.where(mask, load(base, x_offset, index, mask, x_dtype, COMPUTE), float("-inf"))
        gap = m[:, None] - x
        top = c[None, :] == a[:, None]
        e = tl.where(mask & (top == 0), exp_of_negative(-gap, COMPUTE), 0.0)
        rest_lanes += e
        if mode == ENTROPY:
            gaps_lanes += tl.where(mask, times(e, gap), 0.0)
        else:
            u = mass(base, job, y, c, index, mask, COMPUTE)
            total_lanes += u
            others_lanes += tl.where(top, 0.0, u)
            gaps_lanes += tl.where(mask, times(u, gap), 0.0)
    rest = tl.sum(rest_lanes, 1)
    total = tl.sum(total_lanes, 1)
    others = tl.sum(others_lanes, 1)
    gaps = tl.sum(gaps_lanes, 1)
    d = 1.0 + rest
    log_d = log1p(rest, COMPUTE)
    p_top = divide(tl.full([TILE], 1.0, COMPUTE), d, COMPUTE)
    rest_p = divide(rest, d, COMPUTE)
    if mode == ENTROPY:
        gaps = divide(gaps, d, COMPUTE)
        loss = gaps + log_d
    else:
        loss = gaps + times(total, log_d)
    loss = tl.where(undefined, float("nan"), loss)
    weight = load_rows(base, tl.load(job + ROW_WEIGHT), row, live)
    losses = (results + tl.load(job + LOSSES)).to(tl.pointer_type(tl.float64))
    tl.store(losses + row, tl.where(dropped, 0.0, times(weight, loss.to(tl.float64))), mask=live)

    # Pass 3: gradients.
    dx_offset = tl.load(job + INPUT_GRADIENT)
    dt_offset = tl.load(job + TARGET_GRADIENT)
    if (dx_offset >= 0) | (dt_offset >= 0):
        upstream = load_rows(base, tl.load(job + ROW_UPSTREAM), row, live)
        scale = times(load_number(job + SCALE_BITS), times(weight, upstream)).to(COMPUTE)
        keep = load_number(job + KEEP_BITS).to(COMPUTE)
        for begin in range(0, classes, BLOCK):
            c = begin + tl.arange(0, BLOCK).to(tl.int64)
            mask = live[:, None] & (c < classes)[None, :]
            index = first[:, None] + (c * inner)[None, :]
            x = load(base, x_offset, index, mask, x_dtype, COMPUTE)
            gap = m[:, None] - x
            top = c[None, :] == a[:, None]
            if dx_offset >= 0:
                p = tl.where(top, 1.0, exp_of_negative(-gap, COMPUTE)) * p_top[:, None]
                if mode == ENTROPY:
                    dx = times(p, gap - gaps[:, None])
                else:
                    u = mass(base, job, y, c, index, mask, COMPUTE)
                    at_top = times(others, p_top)[:, None] - times(u, rest_p[:, None])
                    dx = tl.where(top, at_top, times(total[:, None], p) - u)
                dx = times(scale[:, None], tl.where(undefined[:, None], float("nan"), dx))
                dx = tl.where(dropped[:, None], 0.0, dx)
                store(results, dx_offset, index, mask, tl.load(job + INPUT_GRADIENT_DTYPE), dx)
            if dt_offset >= 0:
                w = times(keep, class_weight(base, job, c, COMPUTE))[None, :]
                dt = times(w, tl.where(undefined[:, None], float("nan"), gap + log_d[:, None]))
                store(results, dt_offset, index, mask, tl.load(job + TARGET_GRADIENT_DTYPE), times(scale[:, None], dt))
