"""Rows with a softmax: CrossEntropy of logits, their Entropy, Softmax and LogSoftmax.

With a = the first index of the maximum m: e_c = exp(x_c − m), rest = Σ_{c≠a} e_c, d = 1 + rest, and
−log p_c = (m − x_c) + log1p(rest): two terms ≥ 0. Gradients have two forms:
with u_c the weight of class c in the row (`weighted_target`; −g_c for LogSoftmax): (Σ u)·p_c − u_c, at c = a
(Σ_{k≠a} u_k)/d − u_a·rest/d; with v_c = m − x_c (Entropy), g_c − g_a (Softmax): p_c·(v_c − Σ p·v), where v_a = 0.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lossd_server.backends.triton.descriptor import (
    ARGMAX,
    CLASSES,
    CORRECT,
    ENTROPY,
    ENTROPY_LOGITS,
    FAULTS,
    FORMULA,
    INPUT,
    INPUT_GRADIENT,
    INPUT_GRADIENT_DTYPE,
    ITEM,
    KEEP_BITS,
    LOG_SOFTMAX,
    LOSSES,
    LSE,
    NO_FAULT,
    ROWS,
    SOFTCAP_BITS,
    SOFTMAX,
    STATES,
    TARGET_GRADIENT,
    TARGET_GRADIENT_DTYPE,
    UPSTREAM,
    VALUES,
    VALUES_DTYPE,
    WORDS,
    Z_LOSS_BITS,
)
from lossd_server.backends.triton.kernels.arithmetic import divide, exp, log1p, tanh_slope, times
from lossd_server.backends.triton.kernels.row_access import (
    class_offsets,
    class_weight,
    entry_offsets,
    load_labels,
    logits,
    max_and_argmax,
    row_factors,
    store_rows,
    weighted_target,
)
from lossd_server.backends.triton.kernels.typed_memory import load_number, load_operand, load_view, store


@triton.jit(do_not_specialize=["item", "work"])
def softmax_general_kernel(
    words: tl.tensor,
    out: tl.tensor,
    item: tl.tensor,
    work: tl.tensor,
    COMPUTE: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One program: TILE rows of one job, BLOCK classes at a time.

    words: int64, descriptors, work list, operands. out: int64, a work item's fault words, results. item: the first
    work item of this launch. work: the work list's first word.
    """
    number = item + tl.program_id(0)
    job = words + tl.load(words + work + ITEM * number) * WORDS
    base = words.to(tl.pointer_type(tl.uint8))
    results = out.to(tl.pointer_type(tl.uint8))
    formula = tl.load(job + FORMULA)
    classes = tl.load(job + CLASSES)
    row = tl.load(words + work + ITEM * number + 1) * TILE + tl.arange(0, TILE)
    live = row < tl.load(job + ROWS)
    curved = (formula == ENTROPY_LOGITS) | (formula == SOFTMAX)  # gradients of the second form

    y, dropped, fault = load_labels(base, job, row, TILE)
    tl.store(out + FAULTS * number, tl.min(fault, 0))
    tl.store(out + FAULTS * number + 1, NO_FAULT)
    tl.store(out + FAULTS * number + 2, NO_FAULT)

    m, a, nan_at = max_and_argmax(base, job, job + INPUT, row, float("-inf"), COMPUTE, TILE, BLOCK)
    undefined = (nan_at != NO_FAULT) | (m == float("inf")) | (m == float("-inf"))
    g_top = tl.zeros([TILE, 1], COMPUTE)
    if formula == SOFTMAX:
        at, exists = entry_offsets(job, row, a)
        g_top = load_view(base, job + UPSTREAM, at, exists, COMPUTE)

    # Pass 2: rest, Σ u, Σ_{k≠a} u, and Σ u·(m − x) or Σ e·v.
    rest_lanes = tl.zeros([TILE, BLOCK], COMPUTE)
    total_lanes = tl.zeros([TILE, BLOCK], COMPUTE)
    others_lanes = tl.zeros([TILE, BLOCK], COMPUTE)
    sum_lanes = tl.zeros([TILE, BLOCK], COMPUTE)
    for begin in range(0, classes, BLOCK):
        c, index, mask = class_offsets(job, row, begin, BLOCK)
        gap = m[:, None] - logits(base, job, job + INPUT, index, mask, COMPUTE)
        top = c[None, :] == a[:, None]
        e = tl.where(mask & (top == 0), exp(-gap, COMPUTE), 0.0)
        rest_lanes += e
        if curved:
            v = gap
            if formula == SOFTMAX:
                v = load_view(base, job + UPSTREAM, index, mask, COMPUTE) - g_top
            sum_lanes += tl.where(mask, times(e, v), 0.0)
        else:
            if formula == LOG_SOFTMAX:
                u = tl.where(mask, -load_view(base, job + UPSTREAM, index, mask, COMPUTE), 0.0)
            else:
                u = weighted_target(base, job, y, c, index, mask, COMPUTE)
                sum_lanes += tl.where(mask, times(u, gap), 0.0)
            total_lanes += u
            others_lanes += tl.where(top, 0.0, u)
    rest = tl.sum(rest_lanes, 1)
    total = tl.sum(total_lanes, 1)
    others = tl.sum(others_lanes, 1)
    sums = tl.sum(sum_lanes, 1)
    d = 1.0 + rest
    log_d = log1p(rest, COMPUTE)
    p_top = divide(tl.full([TILE], 1.0, COMPUTE), d, COMPUTE)
    rest_p = divide(rest, d, COMPUTE)
    lse = tl.where(undefined, float("nan"), m.to(tl.float64) + log_d.to(tl.float64))
    z_loss = load_number(job + Z_LOSS_BITS)
    pull = times(2.0 * z_loss, lse).to(COMPUTE)  # z_loss adds pull·p to the gradient
    if curved:
        sums = divide(sums, d, COMPUTE)
        loss = sums + log_d
    else:
        loss = sums + times(total, log_d)
    loss = tl.where(undefined, float("nan"), loss.to(tl.float64) + times(z_loss, lse * lse))
    weight, factor = row_factors(base, job, row)
    store_rows(results, tl.load(job + LOSSES), row, live, tl.where(dropped, 0.0, times(weight, loss)))
    states = tl.load(job + STATES)
    store_rows(results, states, 2 * row, live, m)
    store_rows(results, states, 2 * row + 1, live, tl.where(undefined, float("nan"), log_d))
    store_outputs(base, job, results, row, y, dropped, m, a, nan_at, d, log_d, lse, COMPUTE, TILE, BLOCK)

    # Pass 3: gradients, and an activation's values.
    dx_offset = tl.load(job + INPUT_GRADIENT)
    dt_offset = tl.load(job + TARGET_GRADIENT)
    values = tl.load(job + VALUES)
    if (dx_offset >= 0) | (dt_offset >= 0) | (values >= 0):
        scale = factor.to(COMPUTE)[:, None]
        for begin in range(0, classes, BLOCK):
            c, index, mask = class_offsets(job, row, begin, BLOCK)
            gap = m[:, None] - logits(base, job, job + INPUT, index, mask, COMPUTE)
            top = c[None, :] == a[:, None]
            p = tl.where(top, 1.0, exp(-gap, COMPUTE)) * p_top[:, None]
            nats = tl.where(undefined[:, None], float("nan"), gap + log_d[:, None])
            if values >= 0:
                value = -nats
                if formula == SOFTMAX:
                    value = tl.where(undefined[:, None], float("nan"), p)
                store(results, values, index, mask, tl.load(job + VALUES_DTYPE), value)
            if dx_offset >= 0:
                if curved:
                    v = gap
                    if formula == SOFTMAX:
                        v = load_view(base, job + UPSTREAM, index, mask, COMPUTE) - g_top
                    dx = times(p, v - sums[:, None])
                else:
                    if formula == LOG_SOFTMAX:
                        u = -load_view(base, job + UPSTREAM, index, mask, COMPUTE)
                    else:
                        u = weighted_target(base, job, y, c, index, mask, COMPUTE)
                    at_top = times(others, p_top)[:, None] - times(u, rest_p[:, None])
                    dx = tl.where(top, at_top, times(total[:, None], p) - u) + times(pull[:, None], p)
                dx = tl.where(undefined[:, None], float("nan"), dx)
                if tl.float64 == COMPUTE:
                    cap = load_number(job + SOFTCAP_BITS)
                    if cap > 0:
                        x = load_operand(base, job + INPUT, index, mask, COMPUTE)
                        dx = times(dx, tanh_slope(x / cap, COMPUTE))
                dx = tl.where(dropped[:, None], 0.0, times(scale, dx))
                store(results, dx_offset, index, mask, tl.load(job + INPUT_GRADIENT_DTYPE), dx)
            if dt_offset >= 0:
                w = times(load_number(job + KEEP_BITS).to(COMPUTE), class_weight(base, job, c, COMPUTE))[None, :]
                dt = times(scale, times(w, nats))
                store(results, dt_offset, index, mask, tl.load(job + TARGET_GRADIENT_DTYPE), dt)


@triton.jit
def store_outputs(
    base: tl.tensor,
    job: tl.tensor,
    results: tl.tensor,
    row: tl.tensor,
    y: tl.tensor,
    dropped: tl.tensor,
    m: tl.tensor,
    a: tl.tensor,
    nan_at: tl.tensor,
    d: tl.tensor,
    log_d: tl.tensor,
    lse: tl.tensor,
    COMPUTE: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """The by-products that are asked for, one entry a row. The entropy costs a pass of its own."""
    live = row < tl.load(job + ROWS)
    store_rows(results, tl.load(job + LSE), row, live, lse)
    best = tl.where(nan_at == NO_FAULT, a, -1)
    argmax = tl.load(job + ARGMAX)
    if argmax >= 0:
        tl.store((results + argmax).to(tl.pointer_type(tl.int64)) + row, best, mask=live)
    correct = tl.load(job + CORRECT)
    if correct >= 0:
        hit = (best == y) & (dropped == 0)
        tl.store(results + correct + row, hit.to(tl.uint8), mask=live)
    entropy = tl.load(job + ENTROPY)
    if entropy >= 0:
        lanes = tl.zeros([TILE, BLOCK], COMPUTE)
        for begin in range(0, tl.load(job + CLASSES), BLOCK):
            _, index, mask = class_offsets(job, row, begin, BLOCK)
            gap = m[:, None] - logits(base, job, job + INPUT, index, mask, COMPUTE)
            lanes += tl.where(mask, times(exp(-gap, COMPUTE), gap), 0.0)
        store_rows(results, entropy, row, live, divide(tl.sum(lanes, 1), d, COMPUTE) + log_d)
