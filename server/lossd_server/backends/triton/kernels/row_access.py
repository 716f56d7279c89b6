"""What the kernels of rows share: places, class indices and weights, a row's maximum. Device functions."""

from __future__ import annotations

import triton
import triton.language as tl

from lossd_server.backends.triton.descriptor import (
    CLASS_WEIGHT,
    CLASSES,
    CROSS_ENTROPY_DISTRIBUTION,
    CROSS_ENTROPY_INDEX,
    CROSS_ENTROPY_KINDS_DISTRIBUTION,
    CROSS_ENTROPY_KINDS_INDEX,
    FORMULA,
    IGNORE_INDEX,
    INNER,
    KEEP_BITS,
    NLL,
    NO_FAULT,
    PITCH,
    ROW_UPSTREAM,
    ROW_WEIGHT,
    ROWS,
    SCALE_BITS,
    SMOOTH_BITS,
    SOFTCAP_BITS,
    TARGET,
)
from lossd_server.backends.triton.kernels.arithmetic import tanh, times
from lossd_server.backends.triton.kernels.typed_memory import load_number, load_operand, load_rows


@triton.jit
def class_offsets(
    job: tl.tensor, row: tl.tensor, begin: tl.tensor, BLOCK: tl.constexpr
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Classes from `begin` on: [BLOCK]; their flat indices, and which of them exist: [TILE, BLOCK]."""
    classes = tl.load(job + CLASSES)
    inner = tl.load(job + INNER)
    c = begin + tl.arange(0, BLOCK).to(tl.int64)
    first = row // inner * tl.load(job + PITCH) + row % inner
    mask = (row < tl.load(job + ROWS))[:, None] & (c < classes)[None, :]
    return c, first[:, None] + (c * inner)[None, :], mask


@triton.jit
def entry_offsets(job: tl.tensor, row: tl.tensor, c: tl.tensor) -> tuple[tl.tensor, tl.tensor]:
    """Flat indices of class c of each row, and which of them exist: [TILE, 1] each."""
    classes = tl.load(job + CLASSES)
    inner = tl.load(job + INNER)
    index = row // inner * tl.load(job + PITCH) + row % inner + c * inner
    return index[:, None], ((row < tl.load(job + ROWS)) & (c >= 0) & (c < classes))[:, None]


@triton.jit
def logits(
    base: tl.tensor, job: tl.tensor, operand: tl.tensor, index: tl.tensor, mask: tl.tensor, COMPUTE: tl.constexpr
) -> tl.tensor:
    """Entries of an operand, capped where the job has a softcap k: k·tanh(x/k). Only float64 kernels know of caps."""
    x = load_operand(base, operand, index, mask, COMPUTE)
    if tl.float64 == COMPUTE:
        cap = load_number(job + SOFTCAP_BITS)
        if cap > 0:
            x = cap * tanh(x / cap, COMPUTE)
    return x


@triton.jit
def max_and_argmax(
    base: tl.tensor,
    job: tl.tensor,
    operand: tl.tensor,
    row: tl.tensor,
    least: tl.tensor,
    COMPUTE: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """The maximum, its first index, and the first class whose entry is NaN or below `least`: [TILE] each."""
    best = tl.full([TILE, BLOCK], float("-inf"), COMPUTE)
    best_at = tl.full([TILE, BLOCK], NO_FAULT, tl.int64)
    wrong_at = tl.full([TILE, BLOCK], NO_FAULT, tl.int64)
    for begin in range(0, tl.load(job + CLASSES), BLOCK):
        c, index, mask = class_offsets(job, row, begin, BLOCK)
        x = logits(base, job, operand, index, mask, COMPUTE)
        # NaN is found apart, since a maximum may drop it.
        wrong_at = tl.minimum(wrong_at, tl.where(mask & ((x >= least) == 0), c[None, :], NO_FAULT))
        better = mask & (x > best)
        best_at = tl.where(better, c[None, :], best_at)
        best = tl.where(better, x, best)
    m = tl.max(best, 1)
    a = tl.min(tl.where(best == m[:, None], best_at, NO_FAULT), 1)
    # Where nothing is above −inf the first class is the first of equals.
    return m, tl.where(m == float("-inf"), 0, a), tl.min(wrong_at, 1)


@triton.jit
def load_labels(
    base: tl.tensor, job: tl.tensor, row: tl.tensor, TILE: tl.constexpr
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Each row's class (−1 where the target is none), which rows are dropped, and their number where it is a fault."""
    y = tl.full([TILE], -1, tl.int64)
    dropped = row < 0
    fault = tl.full([TILE], NO_FAULT, tl.int64)
    formula = tl.load(job + FORMULA)
    if (formula == CROSS_ENTROPY_INDEX) | (formula == CROSS_ENTROPY_KINDS_INDEX) | (formula == NLL):
        live = row < tl.load(job + ROWS)
        start = (base + tl.load(job + TARGET)).to(tl.pointer_type(tl.int64))
        y = tl.load(start + row, mask=live, other=0)
        ignored = y == tl.load(job + IGNORE_INDEX)
        outside = live & ((y < 0) | (y >= tl.load(job + CLASSES))) & (ignored == 0)
        fault = tl.where(outside, row, fault)
        dropped = ignored | outside
    return y, dropped, fault


@triton.jit
def class_weight(base: tl.tensor, job: tl.tensor, c: tl.tensor, COMPUTE: tl.constexpr) -> tl.tensor:
    """w_c, 1 where there are none: [BLOCK]."""
    w = tl.full(c.shape, 1.0, COMPUTE)
    offset = tl.load(job + CLASS_WEIGHT)
    if offset >= 0:
        w = tl.load((base + offset).to(tl.pointer_type(COMPUTE)) + c, mask=c < tl.load(job + CLASSES), other=1.0)
    return w


@triton.jit
def smoothed_target(
    base: tl.tensor, job: tl.tensor, index: tl.tensor, mask: tl.tensor, COMPUTE: tl.constexpr
) -> tl.tensor:
    """t' = (1 − ε)·t + ε/C: [TILE, BLOCK]."""
    keep = load_number(job + KEEP_BITS).to(COMPUTE)
    smooth = load_number(job + SMOOTH_BITS).to(COMPUTE)
    return times(keep, load_operand(base, job + TARGET, index, mask, COMPUTE)) + smooth


@triton.jit
def weighted_target(
    base: tl.tensor,
    job: tl.tensor,
    y: tl.tensor,
    c: tl.tensor,
    index: tl.tensor,
    mask: tl.tensor,
    COMPUTE: tl.constexpr,
) -> tl.tensor:
    """u_c = w_c·t'_c of a cross-entropy, t = [c = y] or the target's: [TILE, BLOCK]."""
    w = class_weight(base, job, c, COMPUTE)[None, :]
    formula = tl.load(job + FORMULA)
    if (formula == CROSS_ENTROPY_DISTRIBUTION) | (formula == CROSS_ENTROPY_KINDS_DISTRIBUTION):
        u = times(w, smoothed_target(base, job, index, mask, COMPUTE))
    else:
        keep = load_number(job + KEEP_BITS).to(COMPUTE)
        smooth = load_number(job + SMOOTH_BITS).to(COMPUTE)
        u = tl.where(c[None, :] == y[:, None], times(keep, w), 0.0)
        if smooth != 0:  # where ε is 0 the weight of no other class counts, whatever it is
            u += smooth * w
    return tl.where(mask, u, 0.0)


@triton.jit
def row_factors(base: tl.tensor, job: tl.tensor, row: tl.tensor) -> tuple[tl.tensor, tl.tensor]:
    """Each row's weight, and what its gradients are multiplied by: scale · weight · upstream. Float64."""
    live = row < tl.load(job + ROWS)
    weight = load_rows(base, tl.load(job + ROW_WEIGHT), row, live)
    upstream = load_rows(base, tl.load(job + ROW_UPSTREAM), row, live)
    return weight, times(load_number(job + SCALE_BITS), times(weight, upstream))


@triton.jit
def store_rows(results: tl.tensor, offset: tl.tensor, row: tl.tensor, live: tl.tensor, value: tl.tensor) -> None:
    """Writes one float64 a row, where there is room for them."""
    if offset >= 0:
        tl.store((results + offset).to(tl.pointer_type(tl.float64)) + row, value.to(tl.float64), mask=live)


@triton.jit
def load_picked(
    base: tl.tensor,
    job: tl.tensor,
    start: tl.tensor,
    at: tl.tensor,
    y: tl.tensor,
    kept: tl.tensor,
    DTYPE: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """The logit and the weight of each row's class, rows beginning `at` entries after byte `start`: [TILE] each."""
    kept = kept & (y >= 0)
    rows = (base + start).to(tl.pointer_type(DTYPE))
    x_y = tl.load(rows + (at + y), mask=kept, other=0.0).to(tl.float32)
    w = tl.full(y.shape, 1.0, tl.float32)
    offset = tl.load(job + CLASS_WEIGHT)
    if offset >= 0:
        w = tl.load((base + offset).to(tl.pointer_type(tl.float32)) + y, mask=kept, other=1.0)
    return x_y, w
