"""What a tile of rows writes, once the sums of its rows are known: losses, by-products, gradients. Device functions."""

from __future__ import annotations

import triton
import triton.language as tl

from lossd_server.backends.triton.descriptor import (
    ARGMAX,
    CORRECT,
    CROSS_ENTROPY_INDEX,
    ENTROPY,
    ENTROPY_LOGITS,
    INPUT_GRADIENT,
    KEEP_BITS,
    LOG_SOFTMAX,
    LOSSES,
    LSE,
    ROW_UPSTREAM,
    ROW_WEIGHT,
    SCALE_BITS,
    SOFTMAX,
    STATES,
    TARGET_GRADIENT,
    VALUES,
    Z_LOSS_BITS,
)
from lossd_server.backends.triton.kernels.arithmetic import exp_nonpositive, fma, log_of_sum, reciprocal, times
from lossd_server.backends.triton.kernels.register_tile import rowwise, store_tile
from lossd_server.backends.triton.kernels.row_access import class_weight, row_factors, store_rows
from lossd_server.backends.triton.kernels.typed_memory import load_number, load_rows


@triton.jit
def row_normaliser(m: tl.tensor, rest: tl.tensor) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """ln d, 1/d, rest/d of d = 1 + rest, and the rows that are NaN: [TILE] each."""
    inverse = reciprocal(1.0 + rest)
    undefined = (rest != rest) | (tl.abs(m) == float("inf"))
    return log_of_sum(rest, inverse), inverse, rest * inverse, undefined


@triton.jit
def write_rows(
    base: tl.tensor,
    job: tl.tensor,
    results: tl.tensor,
    row: tl.tensor,
    live: tl.tensor,
    y: tl.tensor,
    dropped: tl.tensor,
    m: tl.tensor,
    log_d: tl.tensor,
    undefined: tl.tensor,
    gaps: tl.tensor,
    total: tl.tensor,
    curve: tl.tensor,
    best: tl.tensor,
    FORMULA: tl.constexpr,
    OUTPUTS: tl.constexpr,
) -> None:
    """Losses and by-products of rows: gaps = Σ u·(m − x), total = Σ u, curve = Σ p·(m − x), best: argmax or −1."""
    if FORMULA == ENTROPY_LOGITS:
        loss = (curve + log_d).to(tl.float64)
    else:
        loss = fma(total, log_d, gaps).to(tl.float64)
        z_loss = load_number(job + Z_LOSS_BITS)
        if z_loss != 0:
            lse = m.to(tl.float64) + log_d.to(tl.float64)
            loss += z_loss * (lse * lse)
    loss = tl.where(undefined, float("nan"), loss)
    weights = tl.load(job + ROW_WEIGHT)
    if weights >= 0:
        loss = times(load_rows(base, weights, row, live), loss)
    store_rows(results, tl.load(job + LOSSES), row, live, tl.where(dropped, 0.0, loss))
    states = tl.load(job + STATES)
    store_rows(results, states, 2 * row, live, m)
    store_rows(results, states, 2 * row + 1, live, tl.where(undefined, float("nan"), log_d))
    if OUTPUTS:
        lse = tl.where(undefined, float("nan"), m.to(tl.float64) + log_d.to(tl.float64))
        store_rows(results, tl.load(job + LSE), row, live, lse)
        entropy = tl.where(undefined, float("nan"), curve.to(tl.float64) + log_d.to(tl.float64))
        store_rows(results, tl.load(job + ENTROPY), row, live, entropy)
        argmax = tl.load(job + ARGMAX)
        if argmax >= 0:
            tl.store((results + argmax).to(tl.pointer_type(tl.int64)) + row, best.to(tl.int64), mask=live)
        correct = tl.load(job + CORRECT)
        if correct >= 0:
            hit = (best == y) & (dropped == 0)
            tl.store(results + correct + row, hit.to(tl.uint8), mask=live)


@triton.jit
def write_elements(
    base: tl.tensor,
    job: tl.tensor,
    results: tl.tensor,
    row: tl.tensor,
    y: tl.tensor,
    dropped: tl.tensor,
    x: tl.tensor,
    e: tl.tensor,
    u: tl.tensor,
    c: tl.tensor,
    first: tl.tensor,
    at: tl.tensor,
    mask: tl.tensor,
    m: tl.tensor,
    x_y: tl.tensor,
    ties: tl.tensor,
    log_d: tl.tensor,
    inverse: tl.tensor,
    rest_share: tl.tensor,
    undefined: tl.tensor,
    total: tl.tensor,
    others: tl.tensor,
    curve: tl.tensor,
    SOFT_LABELS: tl.constexpr,
    FORMULA: tl.constexpr,
    DTYPE: tl.constexpr,
    TARGET_DTYPE: tl.constexpr,
) -> None:
    """An activation's values, or gradients, of a tile whose first entry is number `first` of its tensor.

    x_y: the logit at the target; inverse: 1/d; rest_share: rest/d; the sums as in `write_rows`; others: Σ u below m.
    """
    nan = float("nan")
    offset = first * (DTYPE.primitive_bitwidth // 8)
    if FORMULA == SOFTMAX:
        p = e * rowwise(tl.where(undefined, nan, inverse))
        store_tile(results, tl.load(job + VALUES) + offset, at, mask, p, DTYPE)
    elif FORMULA == LOG_SOFTMAX:
        value = tl.where(rowwise(undefined), nan, (x - rowwise(m)) - rowwise(log_d))
        store_tile(results, tl.load(job + VALUES) + offset, at, mask, value, DTYPE)
    else:
        scale = tl.zeros_like(m) + load_number(job + SCALE_BITS).to(tl.float32)
        if (tl.load(job + ROW_WEIGHT) >= 0) | (tl.load(job + ROW_UPSTREAM) >= 0):
            _, factor = row_factors(base, job, row)
            scale = factor.to(tl.float32)
        dx_offset = tl.load(job + INPUT_GRADIENT)
        if dx_offset >= 0:
            pull = tl.zeros_like(m)  # z_loss adds pull·p
            z_loss = load_number(job + Z_LOSS_BITS)
            if z_loss != 0:
                pull = (2.0 * z_loss * (m.to(tl.float64) + log_d.to(tl.float64))).to(tl.float32)
            if FORMULA == ENTROPY_LOGITS:
                p = e * rowwise(inverse)
                slope = tl.where(e == 0, 0.0, p * ((rowwise(m) - x) - rowwise(curve)))
                dx = tl.where(rowwise(undefined), nan, rowwise(scale) * slope)
            elif SOFT_LABELS:
                # At a single maximum 1 − p is rest/d, and Σ u − u the sum of the others.
                p = e * rowwise(inverse)
                at_top = rowwise(others * inverse) - u * rowwise(rest_share)
                single = (x == rowwise(m)) & rowwise(ties == 1.0)
                slope = tl.where(single, at_top, rowwise(total) * p - u) + rowwise(pull) * p
                dx = rowwise(tl.where(undefined, nan, scale)) * slope
                dx = tl.where(rowwise(dropped), 0.0, dx)
            else:
                # One class is picked: every other one's gradient is e times one factor of its row.
                p_y = exp_nonpositive(x_y - m) * inverse
                at_y = total * tl.where(x_y == m, -rest_share, p_y - 1.0) + pull * p_y
                at_y = scale * tl.where(undefined, nan, at_y)
                share = scale * (tl.where(undefined, nan, total + pull) * inverse)
                dx = tl.where(c == rowwise(y.to(tl.int32)), rowwise(at_y), e * rowwise(share))
                if tl.max(dropped.to(tl.int32), 0) != 0:
                    dx = tl.where(rowwise(dropped), 0.0, dx)
            store_tile(results, dx_offset + offset, at, mask, dx, DTYPE)
        dt_offset = tl.load(job + TARGET_GRADIENT)
        if SOFT_LABELS and FORMULA != CROSS_ENTROPY_INDEX:  # noqa: SIM102 # the compiler's, the other the device's
            if dt_offset >= 0:
                w = class_weight(base, job, c, tl.float32)
                nats = tl.where(rowwise(undefined), nan, (rowwise(m) - x) + rowwise(log_d))
                dt = times(rowwise(scale), times(times(load_number(job + KEEP_BITS).to(tl.float32), w), nats))
                start = dt_offset + first * (TARGET_DTYPE.primitive_bitwidth // 8)
                store_tile(results, start, at, mask, dt, TARGET_DTYPE)
