"""Rows with a softmax: CrossEntropy of logits, their Entropy, Softmax and LogSoftmax.

With a = the first index of the maximum m: e_c = exp(x_c − m), rest = Σ_{c≠a} e_c, d = 1 + rest, and
−log p_c = (m − x_c) + log1p(rest): two terms ≥ 0. Gradients have two forms:
with u_c the weight of class c in the row (`weighted_target`; −g_c for LogSoftmax): (Σ u)·p_c − u_c, at c = a
(Σ_{k≠a} u_k)/d − u_a·rest/d; with v_c = m − x_c (Entropy), g_c − g_a (Softmax): p_c·(v_c − Σ p·v), where v_a = 0.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl

from lossd_server.backends.triton.descriptor import (
    CLASSES,
    ENTROPY,
    ENTROPY_LOGITS,
    INPUT,
    INPUT_GRADIENT,
    KEEP_BITS,
    LOG_SOFTMAX,
    LOSSES,
    LSE,
    NO_FAULT,
    SOFTCAP_BITS,
    SOFTMAX,
    STATES,
    TARGET_GRADIENT,
    UPSTREAM,
    VALUES,
    Z_LOSS_BITS,
)
from lossd_server.backends.triton.kernels.arithmetic import divide, exp, log1p, tanh_slope, times
from lossd_server.backends.triton.kernels.row_access import (
    ClassBlock,
    Maximum,
    Rows,
    class_block,
    class_weight,
    entry_of_class,
    load_logits,
    load_rows_of_tile,
    row_factors,
    row_maximum,
    store_argmax,
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


class Softmax(NamedTuple):
    """What is known of rows once they were summed: [TILE] each."""

    m: tl.tensor
    a: tl.tensor
    undefined: tl.tensor  # rows that are NaN
    g_top: tl.tensor  # Softmax: the upstream gradient at a: [TILE, 1]
    d: tl.tensor
    log_d: tl.tensor
    p_top: tl.tensor  # 1/d
    rest_p: tl.tensor  # rest/d
    total: tl.tensor  # Σ u
    others: tl.tensor  # Σ_{k≠a} u_k
    mean: tl.tensor  # Σ p·v; Σ u·(m − x) where gradients have the first form
    lse: tl.tensor  # float64
    pull: tl.tensor  # z_loss adds pull·p to the gradient


@triton.jit
def has_second_form(item: WorkItem) -> tl.tensor:
    """Whether the formula's gradients have the second form."""
    return (item.formula == ENTROPY_LOGITS) | (item.formula == SOFTMAX)


@triton.jit
def second_form_values(
    item: WorkItem, gap: tl.tensor, g_top: tl.tensor, block: ClassBlock, COMPUTE: tl.constexpr
) -> tl.tensor:
    """v_c of a block; gap: m − x."""
    v = gap
    if item.formula == SOFTMAX:
        v = load_view(item, UPSTREAM, block.index, block.mask, COMPUTE) - g_top
    return v


@triton.jit
def first_form_weights(item: WorkItem, rows: Rows, block: ClassBlock, COMPUTE: tl.constexpr) -> tl.tensor:
    """u_c of a block."""
    if item.formula == LOG_SOFTMAX:
        u = tl.where(block.mask, -load_view(item, UPSTREAM, block.index, block.mask, COMPUTE), 0.0)
    else:
        u = weighted_target(item, rows, block, COMPUTE)
    return u


@triton.jit
def sum_rows(
    item: WorkItem, rows: Rows, top: Maximum, COMPUTE: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr
) -> Softmax:
    """The second pass over the rows."""
    curved = has_second_form(item)
    g_top = tl.zeros([TILE, 1], COMPUTE)
    if item.formula == SOFTMAX:
        at, exists = entry_of_class(item, rows.row, top.a)
        g_top = load_view(item, UPSTREAM, at, exists, COMPUTE)
    rest_lanes = tl.zeros([TILE, BLOCK], COMPUTE)
    total_lanes = tl.zeros([TILE, BLOCK], COMPUTE)
    others_lanes = tl.zeros([TILE, BLOCK], COMPUTE)
    mean_lanes = tl.zeros([TILE, BLOCK], COMPUTE)
    for begin in range(0, tl.load(item.job + CLASSES), BLOCK):
        block = class_block(item, rows.row, begin, BLOCK)
        gap = top.m[:, None] - load_logits(item, INPUT, block, COMPUTE)
        at_top = block.c[None, :] == top.a[:, None]
        e = tl.where(block.mask & (at_top == 0), exp(-gap, COMPUTE), 0.0)
        rest_lanes += e
        if curved:
            v = second_form_values(item, gap, g_top, block, COMPUTE)
            mean_lanes += tl.where(block.mask, times(e, v), 0.0)
        else:
            u = first_form_weights(item, rows, block, COMPUTE)
            if item.formula != LOG_SOFTMAX:
                mean_lanes += tl.where(block.mask, times(u, gap), 0.0)
            total_lanes += u
            others_lanes += tl.where(at_top, 0.0, u)
    rest = tl.sum(rest_lanes, 1)
    mean = tl.sum(mean_lanes, 1)
    d = 1.0 + rest
    log_d = log1p(rest, COMPUTE)
    if curved:
        mean = divide(mean, d, COMPUTE)
    undefined = (top.invalid != NO_FAULT) | (top.m == float("inf")) | (top.m == float("-inf"))
    lse = tl.where(undefined, float("nan"), top.m.to(tl.float64) + log_d.to(tl.float64))
    return Softmax(
        m=top.m,
        a=top.a,
        undefined=undefined,
        g_top=g_top,
        d=d,
        log_d=log_d,
        p_top=divide(tl.full([TILE], 1.0, COMPUTE), d, COMPUTE),
        rest_p=divide(rest, d, COMPUTE),
        total=tl.sum(total_lanes, 1),
        others=tl.sum(others_lanes, 1),
        mean=mean,
        lse=lse,
        pull=times(2.0 * load_number(item, Z_LOSS_BITS), lse).to(COMPUTE),
    )


@triton.jit
def store_row_losses(item: WorkItem, rows: Rows, p: Softmax, weight: tl.tensor) -> None:
    """Losses, and m and ln d for the class weights' gradient."""
    if has_second_form(item):
        loss = p.mean + p.log_d
    else:
        loss = p.mean + times(p.total, p.log_d)
    loss = loss.to(tl.float64) + times(load_number(item, Z_LOSS_BITS), p.lse * p.lse)
    loss = tl.where(p.undefined, float("nan"), loss)
    store_per_row(
        item, tl.load(item.job + LOSSES), rows.row, rows.live, tl.where(rows.dropped, 0.0, times(weight, loss))
    )
    states = tl.load(item.job + STATES)
    store_per_row(item, states, 2 * rows.row, rows.live, p.m)
    store_per_row(item, states, 2 * rows.row + 1, rows.live, tl.where(p.undefined, float("nan"), p.log_d))


@triton.jit
def store_row_outputs(
    item: WorkItem,
    rows: Rows,
    top: Maximum,
    p: Softmax,
    COMPUTE: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """The by-products that are wanted, one entry a row. The entropy costs a pass of its own."""
    store_per_row(item, tl.load(item.job + LSE), rows.row, rows.live, p.lse)
    store_argmax(item, rows, tl.where(top.invalid == NO_FAULT, top.a, -1))
    entropy_offset = tl.load(item.job + ENTROPY)
    if entropy_offset >= 0:
        lanes = tl.zeros([TILE, BLOCK], COMPUTE)
        for begin in range(0, tl.load(item.job + CLASSES), BLOCK):
            block = class_block(item, rows.row, begin, BLOCK)
            gap = p.m[:, None] - load_logits(item, INPUT, block, COMPUTE)
            lanes += tl.where(block.mask, times(exp(-gap, COMPUTE), gap), 0.0)
        entropy = divide(tl.sum(lanes, 1), p.d, COMPUTE) + p.log_d
        store_per_row(item, entropy_offset, rows.row, rows.live, entropy)


@triton.jit
def input_gradient(
    item: WorkItem,
    rows: Rows,
    block: ClassBlock,
    p: Softmax,
    gap: tl.tensor,
    p_c: tl.tensor,
    scale: tl.tensor,
    COMPUTE: tl.constexpr,
) -> tl.tensor:
    """The gradient of a block's logits."""
    if has_second_form(item):
        v = second_form_values(item, gap, p.g_top, block, COMPUTE)
        dx = times(p_c, v - p.mean[:, None])
    else:
        u = first_form_weights(item, rows, block, COMPUTE)
        at_top = times(p.others, p.p_top)[:, None] - times(u, p.rest_p[:, None])
        dx = tl.where(block.c[None, :] == p.a[:, None], at_top, times(p.total[:, None], p_c) - u)
        dx += times(p.pull[:, None], p_c)
    dx = tl.where(p.undefined[:, None], float("nan"), dx)
    if tl.float64 == COMPUTE:
        cap = load_number(item, SOFTCAP_BITS)
        if cap > 0:
            x = load_operand(item, INPUT, block.index, block.mask, COMPUTE)
            dx = times(dx, tanh_slope(x / cap, COMPUTE))
    return tl.where(rows.dropped[:, None], 0.0, times(scale, dx))


@triton.jit
def store_block_results(
    item: WorkItem, rows: Rows, block: ClassBlock, p: Softmax, scale: tl.tensor, COMPUTE: tl.constexpr
) -> None:
    """An activation's values, and the gradients that are wanted, of a block of classes."""
    gap = p.m[:, None] - load_logits(item, INPUT, block, COMPUTE)
    p_c = tl.where(block.c[None, :] == p.a[:, None], 1.0, exp(-gap, COMPUTE)) * p.p_top[:, None]
    nats = tl.where(p.undefined[:, None], float("nan"), gap + p.log_d[:, None])
    if tl.load(item.job + VALUES) >= 0:
        value = -nats
        if item.formula == SOFTMAX:
            value = tl.where(p.undefined[:, None], float("nan"), p_c)
        store(item, VALUES, block.index, block.mask, value)
    if tl.load(item.job + INPUT_GRADIENT) >= 0:
        dx = input_gradient(item, rows, block, p, gap, p_c, scale, COMPUTE)
        store(item, INPUT_GRADIENT, block.index, block.mask, dx)
    if tl.load(item.job + TARGET_GRADIENT) >= 0:
        w = times(load_number(item, KEEP_BITS).to(COMPUTE), class_weight(item, block.c, COMPUTE))[None, :]
        store(item, TARGET_GRADIENT, block.index, block.mask, times(scale, times(w, nats)))


@triton.jit(do_not_specialize=["first_item", "work_list"])
def softmax_general_kernel(
    words: tl.tensor,
    out: tl.tensor,
    first_item: tl.tensor,
    work_list: tl.tensor,
    COMPUTE: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One program: TILE rows of one job, BLOCK classes at a time, in three passes.

    words: int64, descriptors, work list, operands. out: int64, a work item's fault words, results. first_item: the
    number of this launch's first work item. work_list: the work list's first word.
    """
    item = load_work_item(words, out, first_item, work_list)
    rows = load_rows_of_tile(item, TILE)
    store_faults(item, tl.min(rows.fault, 0), NO_FAULT, NO_FAULT)
    top = row_maximum(item, INPUT, rows.row, float("-inf"), COMPUTE, TILE, BLOCK)
    p = sum_rows(item, rows, top, COMPUTE, TILE, BLOCK)
    weight, factor = row_factors(item, rows.row)
    store_row_losses(item, rows, p, weight)
    store_row_outputs(item, rows, top, p, COMPUTE, TILE, BLOCK)
    gradients = (tl.load(item.job + INPUT_GRADIENT) >= 0) | (tl.load(item.job + TARGET_GRADIENT) >= 0)
    if gradients | (tl.load(item.job + VALUES) >= 0):
        scale = factor.to(COMPUTE)[:, None]
        for begin in range(0, tl.load(item.job + CLASSES), BLOCK):
            store_block_results(item, rows, class_block(item, rows.row, begin, BLOCK), p, scale, COMPUTE)
