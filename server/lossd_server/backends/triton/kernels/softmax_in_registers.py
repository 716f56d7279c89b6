"""Rows with a softmax that fit in registers: read once, one exponential an element, the gradient written once.

With m the row's maximum, e_c = exp(x_c − m), rest their sum with one of the maxima left out, d = 1 + rest:
−log p_c = (m − x_c) + log1p(rest), two terms ≥ 0. With u_c what the row's loss holds of −log p_c the gradient is
(Σ u)·p_c − u_c. How a row is computed depends on (formula, C, dtypes) alone.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lossd_server.backends.triton.descriptor import (
    CROSS_ENTROPY_INDEX,
    ENTROPY_LOGITS,
    FAULTS,
    LOG_SOFTMAX,
    NO_FAULT,
    SOFTMAX,
)
from lossd_server.backends.triton.kernels.register_tile import (
    load_logits,
    load_work_item,
    padded_length,
    row_max,
    rowwise,
    tile_argmax,
    tile_indices,
    tile_sums,
    weighted_target_tile,
)
from lossd_server.backends.triton.kernels.row_access import load_labels, load_picked
from lossd_server.backends.triton.kernels.softmax_epilogue import row_normaliser, write_elements, write_rows


@triton.jit(do_not_specialize=["item", "work"])
def softmax_in_registers_kernel(
    words: tl.tensor,
    out: tl.tensor,
    item: tl.tensor,
    work: tl.tensor,
    FORMULA: tl.constexpr,
    SOFT_LABELS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    DTYPE: tl.constexpr,
    TARGET_DTYPE: tl.constexpr,
    VECTOR: tl.constexpr,
    PADDED: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
    STEP: tl.constexpr,
) -> None:
    """One program: TILE rows of one job, of up to BLOCK classes.

    SPREAD: every class has its weight in the loss, not the picked one alone. OUTPUTS: by-products are wanted.
    L: entries of a row that one instruction takes. Other arguments as of `softmax_general_kernel`.
    """
    number = item + tl.program_id(0)
    job, tile, start, count, classes = load_work_item(words, number, work)
    base = words.to(tl.pointer_type(tl.uint8))
    results = out.to(tl.pointer_type(tl.uint8))
    pitch = padded_length(classes, VECTOR)
    c, r = tile_indices(TILE, BLOCK, STEP)
    live = r < count
    at = rowwise(r) * pitch + c
    mask = rowwise(live) & (c < pitch)
    inside = rowwise(live) & (c < classes)
    x = load_logits(base, start, at, mask, inside, DTYPE, PADDED)

    row = tile * TILE + r
    first = tile * TILE * pitch
    y, dropped, fault = load_labels(base, job, row, TILE)
    tl.store(out + FAULTS * number, tl.min(fault, 0))
    tl.store(out + FAULTS * number + 1, NO_FAULT)
    tl.store(out + FAULTS * number + 2, NO_FAULT)
    u = x
    if SOFT_LABELS:
        u = weighted_target_tile(base, job, y, c, inside, first, at, mask, FORMULA, TARGET_DTYPE)
    m = row_max(x)
    x_y = m
    u_y = m
    if not SOFT_LABELS and FORMULA == CROSS_ENTROPY_INDEX:
        x_y, u_y = load_picked(base, job, start, r * pitch, y, live & (dropped == 0), DTYPE)
    e, rest, ties, gaps, total, others, curve = tile_sums(x, m, u, SOFT_LABELS, OUTPUTS or FORMULA == ENTROPY_LOGITS)
    if not SOFT_LABELS and FORMULA == CROSS_ENTROPY_INDEX:
        gaps = tl.where(u_y == 0, 0.0, u_y * (m - x_y))
        total = u_y
    log_d, inverse, rest_share, undefined = row_normaliser(m, rest + (ties - 1.0))
    curve = curve * inverse
    if FORMULA != SOFTMAX and FORMULA != LOG_SOFTMAX:
        best = tl.full([TILE], -1, tl.int32)
        if OUTPUTS:
            best = tile_argmax(x, m, c)
        write_rows(
            base, job, results, row, live, y, dropped, m, log_d, undefined, gaps, total, curve, best, FORMULA, OUTPUTS
        )
    write_elements(
        base, job, results, row, y, dropped, x, e, u, c, first, at, mask, m, x_y, ties, log_d, inverse, rest_share,
        undefined, total, others, curve, SOFT_LABELS, FORMULA, DTYPE, TARGET_DTYPE,
    )  # fmt: skip
