"""Rows of any kind of numbers: CrossEntropy of other kinds than logits, NLL, KLDivergence by rows, Entropy.

Operands are read as normalisers.py has them: −ln q_c = gap_c + ln d, q_c = e_c/d, with a the first maximum.
With u_c what the row's loss holds of −ln q_c (`weighted_target`; s_c·p_c for KLDivergence, whose target is p and whose
upstream gradient is s), the gradient is (Σ u)·q_c − u_c by logits, −u_c by log-probabilities, that of logits over k_c
by counts, −u_c/q_c by probabilities. Entropy's is (gap_c − Σ q·gap)/(m·d) by counts, −ln q_c − 1 by probabilities.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl

from lossd_server.backends.triton.descriptor import (
    CLASSES,
    COUNTS,
    ENTROPY_COUNTS,
    ENTROPY_PROBABILITIES,
    INPUT,
    INPUT_GRADIENT,
    INPUT_KIND,
    KEEP_BITS,
    KL_ROWS,
    LOGITS,
    LOSSES,
    NLL,
    NO_FAULT,
    PROBABILITIES,
    STATES,
    TARGET,
    TARGET_GRADIENT,
    TARGET_KIND,
    UPSTREAM,
    VALUES,
)
from lossd_server.backends.triton.kernels.arithmetic import divide, quotient, times
from lossd_server.backends.triton.kernels.divergence import (
    Divergence,
    begin_divergence,
    minus_top,
    slope_by_target,
    target_and_log_ratio,
)
from lossd_server.backends.triton.kernels.normalisers import Distribution, gap, normalise, unnormalised
from lossd_server.backends.triton.kernels.row_access import (
    ClassBlock,
    Rows,
    class_block,
    class_weight,
    entry_of_class,
    load_rows_of_tile,
    row_factors,
    weighted_target,
)
from lossd_server.backends.triton.kernels.typed_memory import (
    load_number,
    load_operand,
    load_view,
    store,
    store_per_row,
)
from lossd_server.backends.triton.kernels.work_item import WorkItem, load_work_item, store_faults


class Sums(NamedTuple):
    """Sums over a row: [TILE] each."""

    loss: tl.tensor
    drawn: tl.tensor  # Σ u where the row is normalised, else 0
    others: tl.tensor  # Σ_{c≠a} u_c
    curve: tl.tensor  # KLDivergence: Σ p·(h − h_a)
    less: tl.tensor  # Entropy: what its gradient takes off the gap: Σ q·gap by counts, 1 by probabilities


@triton.jit
def is_entropy(item: WorkItem) -> tl.tensor:
    """Whether the formula is an entropy."""
    return (item.formula == ENTROPY_PROBABILITIES) | (item.formula == ENTROPY_COUNTS)


@triton.jit
def store_row_faults(item: WorkItem, rows: Rows, q: Distribution, TILE: tl.constexpr) -> None:
    """Classes out of range; negative counts; rows of counts that sum to 0."""
    negative = tl.full([TILE], NO_FAULT, tl.int64)
    empty = tl.full([TILE], NO_FAULT, tl.int64)
    if q.kind == COUNTS:
        at, _ = entry_of_class(item, rows.row, q.invalid)
        negative = tl.where(rows.live & (q.invalid != NO_FAULT), tl.min(at, 1), negative)
        empty = tl.where(rows.live & (q.m <= 0), rows.row, empty)
    store_faults(item, tl.min(rows.fault, 0), tl.min(negative, 0), tl.min(empty, 0))


@triton.jit
def undefined_rows(q: Distribution, undefined: tl.tensor) -> tl.tensor:
    """Rows that are NaN: of logits with NaN, or with an infinite maximum; and those that are already."""
    if q.kind == LOGITS:
        undefined = undefined | (q.invalid != NO_FAULT) | (q.m == float("inf")) | (q.m == float("-inf"))
    return undefined


@triton.jit
def read_mask(item: WorkItem, rows: Rows, block: ClassBlock) -> tl.tensor:
    """Entries that are read. NLL reads one entry of its row."""
    mask = block.mask
    if item.formula == NLL:
        mask = mask & (block.c[None, :] == rows.y[:, None])
    return mask


@triton.jit
def sum_rows_of_kind(
    item: WorkItem,
    rows: Rows,
    q: Distribution,
    kl: Divergence,
    undefined: tl.tensor,
    COMPUTE: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> Sums:
    """The first pass: sums, and KLDivergence's losses of elements where they are wanted."""
    loss_lanes = tl.zeros([TILE, BLOCK], COMPUTE)
    total_lanes = tl.zeros([TILE, BLOCK], COMPUTE)
    others_lanes = tl.zeros([TILE, BLOCK], COMPUTE)
    curve_lanes = tl.zeros([TILE, BLOCK], COMPUTE)
    for begin in range(0, tl.load(item.job + CLASSES), BLOCK):
        block = class_block(item, rows.row, begin, BLOCK)
        mask = read_mask(item, rows, block)
        x = load_operand(item, INPUT, block.index, mask, COMPUTE)
        h = gap(x, q.m[:, None], q.kind, COMPUTE)
        if is_entropy(item):
            term = times(unnormalised(x, q.m[:, None], q.kind, COMPUTE), h)
        elif item.formula == KL_ROWS:
            p_c, ratio = target_and_log_ratio(item, block, x, q, kl.p, COMPUTE)
            s = load_view(item, UPSTREAM, block.index, block.mask, COMPUTE)
            term = tl.where(undefined[:, None], float("nan"), times(p_c, ratio))
            if tl.load(item.job + VALUES) >= 0:
                store(item, VALUES, block.index, block.mask, term)
            u = tl.where(mask, times(s, p_c), 0.0)
            bend = minus_top(times(s, ratio + kl.added), kl.h_top, block.c, kl.p.a)
            curve_lanes += tl.where(mask, times(p_c, bend), 0.0)
            total_lanes += u
            others_lanes += tl.where(block.c[None, :] == q.a[:, None], 0.0, u)
        else:
            u = weighted_target(item, rows, block, COMPUTE)
            term = times(u, h + q.log_d[:, None])
            total_lanes += u
            others_lanes += tl.where(block.c[None, :] == q.a[:, None], 0.0, u)
        loss_lanes += tl.where(mask, term, 0.0)
    loss = tl.sum(loss_lanes, 1)
    if is_entropy(item):
        loss = divide(loss, q.d, COMPUTE)
    drawn = tl.zeros([TILE], COMPUTE)
    if (q.kind == LOGITS) | (q.kind == COUNTS):
        drawn = tl.sum(total_lanes, 1)
    less = tl.full([TILE], 1.0, COMPUTE)
    if q.kind == COUNTS:
        less = loss
    others = tl.sum(others_lanes, 1)
    return Sums(loss=loss, drawn=drawn, others=others, curve=tl.sum(curve_lanes, 1), less=less)


@triton.jit
def store_row_losses_of_kind(item: WorkItem, rows: Rows, q: Distribution, sums: Sums, weight: tl.tensor) -> None:
    """Losses, and m and ln d for the class weights' gradient."""
    loss = sums.loss
    if is_entropy(item):
        loss += q.log_d
    losses = tl.where(rows.dropped, 0.0, times(weight, loss.to(tl.float64)))
    store_per_row(item, tl.load(item.job + LOSSES), rows.row, rows.live, losses)
    states = tl.load(item.job + STATES)
    store_per_row(item, states, 2 * rows.row, rows.live, q.m)
    store_per_row(item, states, 2 * rows.row + 1, rows.live, q.log_d)


@triton.jit
def slope_by_input(
    q: Distribution,
    sums: Sums,
    at_top: tl.tensor,
    x: tl.tensor,
    u: tl.tensor,
    COMPUTE: tl.constexpr,
) -> tl.tensor:
    """The gradient of Σ u·(−ln q) by a block of the input."""
    e = unnormalised(x, q.m[:, None], q.kind, COMPUTE)
    dx_top = times(sums.others, q.q_top)[:, None] - times(u, q.rest_q[:, None])
    if (q.kind == PROBABILITIES) | (q.kind == COUNTS):
        dx = times(sums.drawn, q.q_top)[:, None] - quotient(u, e, COMPUTE)
        dx = divide(tl.where(at_top, dx_top, dx), q.m[:, None], COMPUTE)
    else:
        dx = tl.where(at_top, dx_top, times(sums.drawn[:, None], e * q.q_top[:, None]) - u)
    return dx


@triton.jit
def entropy_slope(q: Distribution, sums: Sums, h: tl.tensor, COMPUTE: tl.constexpr) -> tl.tensor:
    """The gradient of an entropy by a block of its input; h: gap."""
    return divide((h - sums.less[:, None]) * q.q_top[:, None], q.m[:, None], COMPUTE)


@triton.jit
def store_block_gradients(
    item: WorkItem,
    rows: Rows,
    block: ClassBlock,
    q: Distribution,
    kl: Divergence,
    undefined: tl.tensor,
    sums: Sums,
    scale: tl.tensor,
    COMPUTE: tl.constexpr,
) -> None:
    """The gradients that are wanted, of a block of classes."""
    x = load_operand(item, INPUT, block.index, read_mask(item, rows, block), COMPUTE)
    h = gap(x, q.m[:, None], q.kind, COMPUTE)
    s = tl.full(x.shape, 1.0, COMPUTE)
    p_c = s
    ratio = s
    if item.formula == KL_ROWS:
        s = load_view(item, UPSTREAM, block.index, block.mask, COMPUTE)
        p_c, ratio = target_and_log_ratio(item, block, x, q, kl.p, COMPUTE)
    if tl.load(item.job + INPUT_GRADIENT) >= 0:
        if is_entropy(item):
            dx = entropy_slope(q, sums, h, COMPUTE)
        else:
            if item.formula == KL_ROWS:
                u = times(s, p_c)
            else:
                u = weighted_target(item, rows, block, COMPUTE)
            dx = slope_by_input(q, sums, block.c[None, :] == q.a[:, None], x, u, COMPUTE)
        dx = times(scale, tl.where(undefined[:, None], float("nan"), dx))
        if item.formula == NLL:  # the entries that it does not read have no part in its loss
            dx = tl.where(read_mask(item, rows, block), dx, 0.0)
        store(item, INPUT_GRADIENT, block.index, block.mask, tl.where(rows.dropped[:, None], 0.0, dx))
    if tl.load(item.job + TARGET_GRADIENT) >= 0:
        minus_log_q = h + q.log_d[:, None]
        if item.formula == KL_ROWS:
            dt = slope_by_target(q, kl, sums.curve, block.c, minus_log_q, s, p_c, ratio)
        else:
            w = times(load_number(item, KEEP_BITS).to(COMPUTE), class_weight(item, block.c, COMPUTE))[None, :]
            dt = times(w, minus_log_q)
        dt = times(scale, tl.where(undefined[:, None], float("nan"), dt))
        store(item, TARGET_GRADIENT, block.index, block.mask, dt)


@triton.jit(do_not_specialize=["first_item", "work_list"])
def distributions_kernel(
    words: tl.tensor,
    out: tl.tensor,
    first_item: tl.tensor,
    work_list: tl.tensor,
    COMPUTE: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One program: TILE rows of one job, BLOCK classes at a time. Arguments as of `softmax_general_kernel`."""
    item = load_work_item(words, out, first_item, work_list)
    rows = load_rows_of_tile(item, TILE)
    q = normalise(item, INPUT, tl.load(item.job + INPUT_KIND), rows.row, COMPUTE, TILE, BLOCK)
    store_row_faults(item, rows, q, TILE)
    undefined = undefined_rows(q, rows.row < 0)
    p = q
    if item.formula == KL_ROWS:
        p = normalise(item, TARGET, tl.load(item.job + TARGET_KIND), rows.row, COMPUTE, TILE, BLOCK)
        undefined = undefined_rows(p, undefined)
    kl = begin_divergence(item, rows, q, p, COMPUTE, TILE)
    sums = sum_rows_of_kind(item, rows, q, kl, undefined, COMPUTE, TILE, BLOCK)
    weight, factor = row_factors(item, rows.row)
    store_row_losses_of_kind(item, rows, q, sums, weight)
    if (tl.load(item.job + INPUT_GRADIENT) >= 0) | (tl.load(item.job + TARGET_GRADIENT) >= 0):
        scale = factor.to(COMPUTE)[:, None]
        for begin in range(0, tl.load(item.job + CLASSES), BLOCK):
            block = class_block(item, rows.row, begin, BLOCK)
            store_block_gradients(item, rows, block, q, kl, undefined, sums, scale, COMPUTE)
