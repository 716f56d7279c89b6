"""Rows of any kind of numbers: CrossEntropy of other kinds than logits, NLL, KLDivergence by rows, Entropy.

Operands are read as normalisers.py has them: −ln q_c = gap_c + ln d, q_c = e_c/d, with a the first maximum.
With u_c what the row's loss holds of −ln q_c (`weighted_target`; s_c·t_c for KLDivergence), the gradient is
(Σ u)·q_c − u_c by logits, −u_c by log-probabilities, that of logits over k_c by counts, −u_c/q_c by probabilities.
Entropy's is (gap_c − Σ q·gap)/(m·d) by counts, −ln q_c − 1 by probabilities.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lossd_server.backends.triton.descriptor import (
    CLASSES,
    COUNTS,
    ENTROPY_COUNTS,
    ENTROPY_PROBABILITIES,
    FAULTS,
    FORMULA,
    INPUT,
    INPUT_GRADIENT,
    INPUT_GRADIENT_DTYPE,
    INPUT_KIND,
    ITEM,
    KEEP_BITS,
    KL_ROWS,
    LOG_PROBABILITIES,
    LOGITS,
    LOSSES,
    NLL,
    NO_FAULT,
    PROBABILITIES,
    ROWS,
    STATES,
    TARGET,
    TARGET_GRADIENT,
    TARGET_GRADIENT_DTYPE,
    TARGET_KIND,
    UPSTREAM,
    VALUES,
    VALUES_DTYPE,
    WORDS,
)
from lossd_server.backends.triton.kernels.arithmetic import divide, log, log1p, quotient, times
from lossd_server.backends.triton.kernels.formulas import log_ratio, slope_of_probability
from lossd_server.backends.triton.kernels.normalisers import gap, normaliser, unnormalised
from lossd_server.backends.triton.kernels.row_access import (
    class_offsets,
    class_weight,
    entry_offsets,
    load_labels,
    row_factors,
    store_rows,
    weighted_target,
)
from lossd_server.backends.triton.kernels.typed_memory import load_number, load_operand, load_view, store


@triton.jit
def minus_top(h: tl.tensor, h_top: tl.tensor, c: tl.tensor, a: tl.tensor) -> tl.tensor:
    """h − h_a, exactly 0 at c = a however the compiler contracts products; h where that is infinite."""
    h_top = tl.where(tl.abs(h_top) == float("inf"), 0.0, h_top)
    return tl.where((c[None, :] == a[:, None]) & (tl.abs(h) != float("inf")), 0.0, h - h_top)


@triton.jit
def target_and_log_ratio(
    x: tl.tensor,
    m: tl.tensor,
    kind: tl.tensor,
    q_top: tl.tensor,
    log_d: tl.tensor,
    z: tl.tensor,
    tm: tl.tensor,
    t_kind: tl.tensor,
    p_top: tl.tensor,
    t_log_d: tl.tensor,
    top: tl.tensor,
    COMPUTE: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """p and ln p − ln q of entries z and x: [TILE, BLOCK] each."""
    p = unnormalised(z, tm, t_kind, COMPUTE) * p_top
    ratio = log_ratio(p, gap(x, m, kind, COMPUTE) + (log_d - t_log_d), gap(z, tm, t_kind, COMPUTE))
    if (kind == COUNTS) & (t_kind == PROBABILITIES):
        # One logarithm has fewer roundings than three, save at the maximum, where q may be near 1.
        direct = divide(p, unnormalised(x, m, kind, COMPUTE) * q_top, COMPUTE)
        ratio = tl.where((direct > 1e-30) & (direct < 1e30) & (top == 0), log(direct, COMPUTE), ratio)
    return p, ratio


@triton.jit(do_not_specialize=["item", "work"])
def distributions_kernel(
    words: tl.tensor,
    out: tl.tensor,
    item: tl.tensor,
    work: tl.tensor,
    COMPUTE: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One program: TILE rows of one job, BLOCK classes at a time. Arguments as of `softmax_general_kernel`."""
    number = item + tl.program_id(0)
    job = words + tl.load(words + work + ITEM * number) * WORDS
    base = words.to(tl.pointer_type(tl.uint8))
    results = out.to(tl.pointer_type(tl.uint8))
    formula = tl.load(job + FORMULA)
    kind = tl.load(job + INPUT_KIND)
    t_kind = tl.load(job + TARGET_KIND)
    classes = tl.load(job + CLASSES)
    row = tl.load(words + work + ITEM * number + 1) * TILE + tl.arange(0, TILE)
    live = row < tl.load(job + ROWS)
    entropy = (formula == ENTROPY_PROBABILITIES) | (formula == ENTROPY_COUNTS)
    divergence = formula == KL_ROWS
    linear = (kind == PROBABILITIES) | (kind == COUNTS)

    y, dropped, no_class = load_labels(base, job, row, TILE)
    m, a, rest, wrong = normaliser(base, job, job + INPUT, kind, row, COMPUTE, TILE, BLOCK)
    negative = tl.full([TILE], NO_FAULT, tl.int64)
    empty = tl.full([TILE], NO_FAULT, tl.int64)
    undefined = row < 0
    if kind == COUNTS:
        at, _ = entry_offsets(job, row, wrong)
        negative = tl.where(live & (wrong != NO_FAULT), tl.min(at, 1), negative)
        empty = tl.where(live & (m <= 0), row, empty)
    if kind == LOGITS:
        undefined = (wrong != NO_FAULT) | (m == float("inf")) | (m == float("-inf"))
    fault = out + FAULTS * number
    tl.store(fault, tl.min(no_class, 0))
    tl.store(fault + 1, tl.min(negative, 0))
    tl.store(fault + 2, tl.min(empty, 0))
    one = tl.full([TILE], 1.0, COMPUTE)
    d = 1.0 + rest
    log_d = log1p(rest, COMPUTE)[:, None]
    q_top = divide(one, d, COMPUTE)
    rest_q = divide(rest, d, COMPUTE)

    # KLDivergence: the same of its target, and for a target of logits h_c = s_c·((ln p_c − ln q_c) + 1) at its maximum,
    # without the 1 where s is the same for all, since Σ p·(h − h_a) takes it out.
    tm = one
    ta = a
    t_rest = tl.zeros([TILE], COMPUTE)
    if divergence:
        tm, ta, t_rest, t_wrong = normaliser(base, job, job + TARGET, t_kind, row, COMPUTE, TILE, BLOCK)
        if t_kind == LOGITS:
            undefined = undefined | (t_wrong != NO_FAULT) | (tm == float("inf")) | (tm == float("-inf"))
    t_log_d = log1p(t_rest, COMPUTE)[:, None]
    p_top = divide(one, 1.0 + t_rest, COMPUTE)[:, None]
    added = tl.where(tl.load(job + UPSTREAM) >= 0, 1.0, 0.0).to(COMPUTE)
    h_top = tl.zeros([TILE, 1], COMPUTE)
    if divergence & (t_kind == LOGITS):
        at, exists = entry_offsets(job, row, ta)
        x = load_operand(base, job + INPUT, at, exists, COMPUTE)
        h_top = (gap(x, m[:, None], kind, COMPUTE) + (log_d - t_log_d)) + added
        h_top = times(load_view(base, job + UPSTREAM, at, exists, COMPUTE), h_top)

    # The loss, Σ u, Σ_{c≠a} u, and Σ p·(h − h_a). NLL reads one entry of its row.
    values = tl.load(job + VALUES)
    loss_lanes = tl.zeros([TILE, BLOCK], COMPUTE)
    total_lanes = tl.zeros([TILE, BLOCK], COMPUTE)
    others_lanes = tl.zeros([TILE, BLOCK], COMPUTE)
    curve_lanes = tl.zeros([TILE, BLOCK], COMPUTE)
    for begin in range(0, classes, BLOCK):
        c, index, mask = class_offsets(job, row, begin, BLOCK)
        if formula == NLL:
            mask = mask & (c[None, :] == y[:, None])
        x = load_operand(base, job + INPUT, index, mask, COMPUTE)
        h = gap(x, m[:, None], kind, COMPUTE)
        top = c[None, :] == a[:, None]
        if entropy:
            term = times(unnormalised(x, m[:, None], kind, COMPUTE), h)
        elif divergence:
            z = load_operand(base, job + TARGET, index, mask, COMPUTE)
            p, ratio = target_and_log_ratio(
                x, m[:, None], kind, q_top[:, None], log_d, z, tm[:, None], t_kind, p_top, t_log_d, top, COMPUTE
            )
            s = load_view(base, job + UPSTREAM, index, mask, COMPUTE)
            term = tl.where(undefined[:, None], float("nan"), times(p, ratio))
            if values >= 0:
                store(results, values, index, mask, tl.load(job + VALUES_DTYPE), term)
            u = tl.where(mask, times(s, p), 0.0)
            curve_lanes += tl.where(mask, times(p, minus_top(times(s, ratio + added), h_top, c, ta)), 0.0)
            total_lanes += u
            others_lanes += tl.where(top, 0.0, u)
        else:
            u = weighted_target(base, job, y, c, index, mask, COMPUTE)
            term = times(u, h + log_d)
            total_lanes += u
            others_lanes += tl.where(top, 0.0, u)
        loss_lanes += tl.where(mask, term, 0.0)
    loss = tl.sum(loss_lanes, 1)
    total = tl.sum(total_lanes, 1)
    others = tl.sum(others_lanes, 1)
    curve = tl.sum(curve_lanes, 1)[:, None]
    if entropy:
        loss = divide(loss, d, COMPUTE)
    mean_gap = loss[:, None]
    if entropy:
        loss += tl.sum(log_d, 1)
    weight, factor = row_factors(base, job, row)
    losses = tl.where(dropped, 0.0, times(weight, loss.to(tl.float64)))
    store_rows(results, tl.load(job + LOSSES), row, live, losses)
    states = tl.load(job + STATES)
    store_rows(results, states, 2 * row, live, m)
    store_rows(results, states, 2 * row + 1, live, tl.sum(log_d, 1))

    # Gradients.
    dx_offset = tl.load(job + INPUT_GRADIENT)
    dt_offset = tl.load(job + TARGET_GRADIENT)
    if (dx_offset >= 0) | (dt_offset >= 0):
        scale = factor.to(COMPUTE)[:, None]
        drawn = tl.zeros([TILE], COMPUTE)  # Σ u where the row is normalised
        if (kind == LOGITS) | (kind == COUNTS):
            drawn = total
        less = one
        if kind == COUNTS:
            less = tl.sum(mean_gap, 1)
        for begin in range(0, classes, BLOCK):
            c, index, mask = class_offsets(job, row, begin, BLOCK)
            reading = mask
            if formula == NLL:
                reading = mask & (c[None, :] == y[:, None])
            x = load_operand(base, job + INPUT, index, reading, COMPUTE)
            h = gap(x, m[:, None], kind, COMPUTE)
            e = unnormalised(x, m[:, None], kind, COMPUTE)
            top = c[None, :] == a[:, None]
            s = tl.full([TILE, BLOCK], 1.0, COMPUTE)
            p = s
            ratio = s
            if divergence:
                z = load_operand(base, job + TARGET, index, mask, COMPUTE)
                s = load_view(base, job + UPSTREAM, index, mask, COMPUTE)
                p, ratio = target_and_log_ratio(
                    x, m[:, None], kind, q_top[:, None], log_d, z, tm[:, None], t_kind, p_top, t_log_d, top, COMPUTE
                )
            if dx_offset >= 0:
                if entropy:
                    dx = divide((h - less[:, None]) * q_top[:, None], m[:, None], COMPUTE)
                else:
                    if divergence:
                        u = times(s, p)
                    else:
                        u = weighted_target(base, job, y, c, index, mask, COMPUTE)
                    at_top = times(others, q_top)[:, None] - times(u, rest_q[:, None])
                    if linear:
                        dx = times(drawn, q_top)[:, None] - quotient(u, e, COMPUTE)
                        dx = divide(tl.where(top, at_top, dx), m[:, None], COMPUTE)
                    else:
                        dx = tl.where(top, at_top, times(drawn[:, None], e * q_top[:, None]) - u)
                dx = times(scale, tl.where(undefined[:, None], float("nan"), dx))
                dx = tl.where(dropped[:, None], 0.0, dx)
                store(results, dx_offset, index, mask, tl.load(job + INPUT_GRADIENT_DTYPE), dx)
            if dt_offset >= 0:
                if divergence:
                    if t_kind == LOGITS:
                        dt = times(p, minus_top(times(s, ratio + added), h_top, c, ta) - curve)
                    elif t_kind == LOG_PROBABILITIES:
                        dt = times(s, times(p, 1.0 + ratio))
                    else:
                        dt = times(s, slope_of_probability(p, h + log_d, ratio))
                else:
                    w = times(load_number(job + KEEP_BITS).to(COMPUTE), class_weight(base, job, c, COMPUTE))[None, :]
                    dt = times(w, h + log_d)
                dt = times(scale, tl.where(undefined[:, None], float("nan"), dt))
                store(results, dt_offset, index, mask, tl.load(job + TARGET_GRADIENT_DTYPE), dt)
