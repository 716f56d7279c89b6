"""What a tile of rows in registers ends with, once its rows' sums are known: losses, by-products, gradients.

Device functions. With p_c = e_c/d the gradient of a row's loss is (Σ u)·p_c − u_c; z_loss adds pull·p_c.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl

from lossd_server.backends.triton.descriptor import (
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
from lossd_server.backends.triton.kernels.register_tile import Tile, rowwise, store_tile
from lossd_server.backends.triton.kernels.row_access import Rows, class_weight, row_factors, store_argmax
from lossd_server.backends.triton.kernels.softmax_prologue import RowSums
from lossd_server.backends.triton.kernels.typed_memory import load_number, load_per_row, store_per_row
from lossd_server.backends.triton.kernels.work_item import WorkItem


class Normaliser(NamedTuple):
    """d = 1 + rest of each row: [TILE] each."""

    log_d: tl.tensor
    inverse: tl.tensor  # 1/d
    rest_share: tl.tensor  # rest/d
    undefined: tl.tensor  # rows that are NaN


@triton.jit
def normaliser_of(sums: RowSums) -> Normaliser:
    """d leaves one of the maxima out of the sum, and adds its 1 exactly."""
    rest = sums.rest + (sums.ties - 1.0)
    inverse = reciprocal(1.0 + rest)
    return Normaliser(
        log_d=log_of_sum(rest, inverse),
        inverse=inverse,
        rest_share=rest * inverse,
        undefined=(rest != rest) | (tl.abs(sums.m) == float("inf")),
    )


@triton.jit
def store_tile_results(
    item: WorkItem,
    rows: Rows,
    tile: Tile,
    x: tl.tensor,
    e: tl.tensor,
    u: tl.tensor,
    x_y: tl.tensor,
    sums: RowSums,
    best: tl.tensor,
    FORMULA: tl.constexpr,
    SOFT_LABELS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    DTYPE: tl.constexpr,
    TARGET_DTYPE: tl.constexpr,
) -> None:
    """Everything that a tile writes. x_y: the logit at the row's class. best: argmax or −1."""
    d = normaliser_of(sums)
    if FORMULA == SOFTMAX or FORMULA == LOG_SOFTMAX:
        store_activation(item, tile, x, e, sums.m, d, FORMULA, DTYPE)
    else:
        curve = sums.curve * d.inverse  # Σ p·(m − x)
        store_losses(item, rows, sums, curve, d, FORMULA)
        if OUTPUTS:
            store_outputs(item, rows, sums.m, curve, d, best)
        scale = tl.zeros_like(sums.m) + load_number(item, SCALE_BITS).to(tl.float32)
        if (tl.load(item.job + ROW_WEIGHT) >= 0) | (tl.load(item.job + ROW_UPSTREAM) >= 0):
            _, factor = row_factors(item, rows.row)
            scale = factor.to(tl.float32)
        offset = tl.load(item.job + INPUT_GRADIENT)
        if offset >= 0:
            if FORMULA == ENTROPY_LOGITS:
                dx = entropy_gradient(x, e, sums.m, curve, d, scale)
            elif SOFT_LABELS:
                dx = soft_label_gradient(item, rows, x, e, u, sums, d, scale)
            else:
                dx = picked_class_gradient(item, rows, tile, e, x_y, sums, d, scale)
            start = offset + tile.first * (DTYPE.primitive_bitwidth // 8)
            store_tile(item.results, start, tile.at, tile.mask, dx, DTYPE)
        if SOFT_LABELS and FORMULA != CROSS_ENTROPY_INDEX:
            store_target_gradient(item, tile, x, sums.m, d, scale, TARGET_DTYPE)


@triton.jit
def store_activation(
    item: WorkItem,
    tile: Tile,
    x: tl.tensor,
    e: tl.tensor,
    m: tl.tensor,
    d: Normaliser,
    FORMULA: tl.constexpr,
    DTYPE: tl.constexpr,
) -> None:
    """Softmax or LogSoftmax of every entry."""
    if FORMULA == SOFTMAX:
        value = e * rowwise(tl.where(d.undefined, float("nan"), d.inverse))
    else:
        value = tl.where(rowwise(d.undefined), float("nan"), (x - rowwise(m)) - rowwise(d.log_d))
    start = tl.load(item.job + VALUES) + tile.first * (DTYPE.primitive_bitwidth // 8)
    store_tile(item.results, start, tile.at, tile.mask, value, DTYPE)


@triton.jit
def store_losses(
    item: WorkItem, rows: Rows, sums: RowSums, curve: tl.tensor, d: Normaliser, FORMULA: tl.constexpr
) -> None:
    """Losses, and m and ln d for the class weights' gradient."""
    if FORMULA == ENTROPY_LOGITS:
        loss = (curve + d.log_d).to(tl.float64)
    else:
        total = tl.where((d.log_d == 0) & (tl.abs(sums.total) == float("inf")), 0.0, sums.total)
        loss = fma(total, d.log_d, sums.gaps).to(tl.float64)
        z_loss = load_number(item, Z_LOSS_BITS)
        if z_loss != 0:
            lse = sums.m.to(tl.float64) + d.log_d.to(tl.float64)
            loss += z_loss * (lse * lse)
    loss = tl.where(d.undefined, float("nan"), loss)
    weights = tl.load(item.job + ROW_WEIGHT)
    if weights >= 0:
        loss = times(load_per_row(item, weights, rows.row, rows.live), loss)
    store_per_row(item, tl.load(item.job + LOSSES), rows.row, rows.live, tl.where(rows.dropped, 0.0, loss))
    states = tl.load(item.job + STATES)
    store_per_row(item, states, 2 * rows.row, rows.live, sums.m)
    store_per_row(item, states, 2 * rows.row + 1, rows.live, tl.where(d.undefined, float("nan"), d.log_d))


@triton.jit
def store_outputs(item: WorkItem, rows: Rows, m: tl.tensor, curve: tl.tensor, d: Normaliser, best: tl.tensor) -> None:
    """The by-products that are wanted."""
    log_d = d.log_d.to(tl.float64)
    lse = tl.where(d.undefined, float("nan"), m.to(tl.float64) + log_d)
    store_per_row(item, tl.load(item.job + LSE), rows.row, rows.live, lse)
    entropy = tl.where(d.undefined, float("nan"), curve.to(tl.float64) + log_d)
    store_per_row(item, tl.load(item.job + ENTROPY), rows.row, rows.live, entropy)
    store_argmax(item, rows, best)


@triton.jit
def z_loss_pull(item: WorkItem, m: tl.tensor, d: Normaliser) -> tl.tensor:
    """What z_loss = κ·lse² multiplies p with in the gradient: 2κ·lse."""
    pull = tl.zeros_like(m)
    z_loss = load_number(item, Z_LOSS_BITS)
    if z_loss != 0:
        pull = (2.0 * z_loss * (m.to(tl.float64) + d.log_d.to(tl.float64))).to(tl.float32)
    return pull


@triton.jit
def entropy_gradient(
    x: tl.tensor, e: tl.tensor, m: tl.tensor, curve: tl.tensor, d: Normaliser, scale: tl.tensor
) -> tl.tensor:
    """scale·p·((m − x) − Σ p·(m − x))."""
    p = e * rowwise(d.inverse)
    slope = tl.where(e == 0, 0.0, p * ((rowwise(m) - x) - rowwise(curve)))
    return tl.where(rowwise(d.undefined), float("nan"), times(rowwise(scale), slope))


@triton.jit
def soft_label_gradient(
    item: WorkItem,
    rows: Rows,
    x: tl.tensor,
    e: tl.tensor,
    u: tl.tensor,
    sums: RowSums,
    d: Normaliser,
    scale: tl.tensor,
) -> tl.tensor:
    """scale·((Σ u)·p − u + pull·p). At a single maximum 1 − p is rest/d, and Σ u − u the sum of the others."""
    pull = z_loss_pull(item, sums.m, d)
    # A factor of 0 annihilates an infinite one: with few registers, and a NaN is the whole row's.
    factor = tl.where(d.undefined | (sums.total != sums.total), float("nan"), scale)
    p = e * rowwise(d.inverse)
    at_top = rowwise(sums.others * d.inverse) - tl.where(rowwise(d.rest_share == 0), 0.0, u) * rowwise(d.rest_share)
    single = (x == rowwise(sums.m)) & rowwise(sums.ties == 1.0)
    whole = tl.where(p == 0, 0.0, rowwise(sums.total))
    slope = tl.where(single, at_top, whole * p - u) + tl.where(p == 0, 0.0, rowwise(pull)) * p
    nothing = ((slope == 0) & rowwise(factor == factor)) | rowwise(factor == 0)
    dx = tl.where(nothing, 0.0, rowwise(factor) * slope)
    return tl.where(rowwise(rows.dropped), 0.0, dx)


@triton.jit
def picked_class_gradient(
    item: WorkItem,
    rows: Rows,
    tile: Tile,
    e: tl.tensor,
    x_y: tl.tensor,
    sums: RowSums,
    d: Normaliser,
    scale: tl.tensor,
) -> tl.tensor:
    """The same where one class has a weight: every other one's gradient is e times one factor of its row."""
    pull = z_loss_pull(item, sums.m, d)
    p_y = exp_nonpositive(x_y - sums.m) * d.inverse
    at_y = times(sums.total, tl.where(x_y == sums.m, -d.rest_share, p_y - 1.0)) + times(pull, p_y)
    at_y = times(scale, tl.where(d.undefined, float("nan"), at_y))
    share = times(scale, tl.where(d.undefined, float("nan"), sums.total + pull) * d.inverse)
    dx = tl.where(tile.c == rowwise(rows.y.to(tl.int32)), rowwise(at_y), e * rowwise(share))
    infinite = tl.abs(share) == float("inf")  # times an e of 0, which annihilates it
    if tl.max((rows.dropped | infinite).to(tl.int32), 0) != 0:
        dx = tl.where(rowwise(rows.dropped) | ((dx != dx) & rowwise(infinite)), 0.0, dx)
    return dx


@triton.jit
def store_target_gradient(
    item: WorkItem,
    tile: Tile,
    x: tl.tensor,
    m: tl.tensor,
    d: Normaliser,
    scale: tl.tensor,
    DTYPE: tl.constexpr,
) -> None:
    """scale·(1 − ε)·w·(−log p), where it is wanted."""
    offset = tl.load(item.job + TARGET_GRADIENT)
    if offset >= 0:
        w = class_weight(item, tile.c, tl.float32)
        nats = tl.where(rowwise(d.undefined), float("nan"), (rowwise(m) - x) + rowwise(d.log_d))
        dt = times(rowwise(scale), times(times(load_number(item, KEEP_BITS).to(tl.float32), w), nats))
        start = offset + tile.first * (DTYPE.primitive_bitwidth // 8)
        store_tile(item.results, start, tile.at, tile.mask, dt, DTYPE)
