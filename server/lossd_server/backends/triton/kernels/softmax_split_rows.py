"""Long rows with a softmax, cut into pieces of BLOCK classes: a piece is a program's, in registers.

A piece's sums are relative to its own maximum; a row's are the pieces', in their order, each times exp(m_j − m). As
two launches: SUM leaves a piece's sums, FINISH puts them together and reads the piece again (from L2 where the rows
of a launch fit there) for the gradient.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lossd_server.backends.triton.descriptor import (
    BLOCK_SUMS,
    CROSS_ENTROPY_INDEX,
    ENTROPY_LOGITS,
    FAULTS,
    LOG_SOFTMAX,
    NO_FAULT,
    ROW_BLOCKS,
    SOFTMAX,
    SUMS_PER_BLOCK,
)
from lossd_server.backends.triton.kernels.arithmetic import exp_nonpositive
from lossd_server.backends.triton.kernels.register_tile import (
    NEVER,
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

# PHASE
SUM = tl.constexpr(1)
FINISH = tl.constexpr(2)
COMBINED_BLOCKS = tl.constexpr(64)  # pieces whose sums are put together at a time


@triton.jit
def column(
    partials: tl.tensor, begin: tl.tensor, pieces: tl.tensor, number: tl.constexpr, other: tl.constexpr
) -> tl.tensor:
    """Number `number` of the pieces from `begin` on: [1, PARTIALS_BLOCK]."""
    j = begin + tl.arange(0, COMBINED_BLOCKS)[None, :]
    return tl.load(partials + j * SUMS_PER_BLOCK + number, mask=j < pieces, other=other)


@triton.jit
def row_sums(
    partials: tl.tensor, pieces: tl.tensor
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor, tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """The row's maximum, and Σ e below it, entries equal to it, Σ u·(m − x), Σ u, Σ u below it, Σ e·(m − x), its first
    class: [1] each.
    """
    zeros = tl.zeros([1, COMBINED_BLOCKS], tl.float32)
    best = zeros + float("-inf")
    for begin in range(0, pieces, COMBINED_BLOCKS):
        best = tl.maximum(best, column(partials, begin, pieces, 0, float("-inf")))
    m = tl.max(best, 1)
    rest = zeros
    ties = zeros
    gaps = zeros
    total = zeros
    others = zeros
    curve = zeros
    first = tl.full([1, COMBINED_BLOCKS], NEVER, tl.int32)
    for begin in range(0, pieces, COMBINED_BLOCKS):
        m_j = column(partials, begin, pieces, 0, float("-inf"))
        rest_j = column(partials, begin, pieces, 1, 0.0)
        ties_j = column(partials, begin, pieces, 2, 0.0)
        u_j = column(partials, begin, pieces, 4, 0.0)
        top = m_j == m[:, None]
        below = tl.where(top, 0.0, m[:, None] - m_j)
        shrink = exp_nonpositive(-below)
        e_j = tl.where(top, rest_j, (rest_j + ties_j) * shrink)
        rest += e_j
        ties += tl.where(top, ties_j, 0.0)
        gaps += column(partials, begin, pieces, 3, 0.0) + tl.where(u_j == 0, 0.0, u_j * below)
        total += u_j
        others += tl.where(top, column(partials, begin, pieces, 5, 0.0), u_j)
        curve_j = column(partials, begin, pieces, 6, 0.0) * shrink
        curve += curve_j + tl.where(e_j == 0, 0.0, tl.where(top, 0.0, e_j * below))
        first_j = column(partials, begin, pieces, 7, float("inf")).to(tl.int32, bitcast=True)
        first = tl.minimum(first, tl.where(top | (first_j < 0), first_j, NEVER))
    return (
        m, tl.sum(rest, 1), tl.sum(ties, 1), tl.sum(gaps, 1), tl.sum(total, 1), tl.sum(others, 1), tl.sum(curve, 1),
        tl.min(first, 1),
    )  # fmt: skip


@triton.jit(do_not_specialize=["item", "work"])
def softmax_split_rows_kernel(
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
    BLOCK: tl.constexpr,
    PHASE: tl.constexpr,
) -> None:
    """One program: one piece of one row. Arguments as of `softmax_in_registers_kernel`."""
    number = item + tl.program_id(0)
    job, tile, start, count, classes = load_work_item(words, number, work)
    base = words.to(tl.pointer_type(tl.uint8))
    results = out.to(tl.pointer_type(tl.uint8))
    pieces = tl.load(job + ROW_BLOCKS)
    piece = tile % pieces
    row = tile // pieces + tl.arange(0, 1).to(tl.int64)
    leads = piece == 0  # writes what there is one of a row
    live = (row >= 0) & leads
    begin = piece * BLOCK
    lane, _ = tile_indices(1, BLOCK, BLOCK)
    c = begin.to(tl.int32) + lane
    mask = lane < padded_length(count, VECTOR)
    inside = lane < count
    first = tile // pieces * padded_length(classes, VECTOR) + begin
    partials = (results + tl.load(job + BLOCK_SUMS)).to(
        tl.pointer_type(tl.float32)
    ) + tile // pieces * pieces * SUMS_PER_BLOCK

    y, dropped, fault = load_labels(base, job, row, 1)
    tl.store(out + FAULTS * number, tl.min(fault, 0))
    tl.store(out + FAULTS * number + 1, NO_FAULT)
    tl.store(out + FAULTS * number + 2, NO_FAULT)
    x = load_logits(base, start, lane, mask, inside, DTYPE, PADDED)
    u = x
    if SOFT_LABELS:
        u = weighted_target_tile(base, job, y, c, inside, first, lane, mask, FORMULA, TARGET_DTYPE)
    if PHASE == SUM:
        m = row_max(x)
        _, rest, ties, gaps, total, others, curve = tile_sums(
            x, m, u, SOFT_LABELS, OUTPUTS or FORMULA == ENTROPY_LOGITS
        )
        own = partials + piece * SUMS_PER_BLOCK + tl.arange(0, 1)
        tl.store(own, m)
        tl.store(own + 1, rest)
        tl.store(own + 2, ties)
        tl.store(own + 3, gaps)
        tl.store(own + 4, total)
        tl.store(own + 5, others)
        tl.store(own + 6, curve)
        if OUTPUTS:
            tl.store(own + 7, tile_argmax(x, m, c).to(tl.float32, bitcast=True))
    else:
        m, rest, ties, gaps, total, others, curve, at_first = row_sums(partials, pieces)
        log_d, inverse, rest_share, undefined = row_normaliser(m, rest + (ties - 1.0))
        curve = curve * inverse
        x_y = m
        if not SOFT_LABELS and FORMULA == CROSS_ENTROPY_INDEX:
            row_start = start - begin * (DTYPE.primitive_bitwidth // 8)
            x_y, total = load_picked(base, job, row_start, tl.zeros([1], tl.int64), y, dropped == 0, DTYPE)
            gaps = tl.where(total == 0, 0.0, total * (m - x_y))
        if FORMULA != SOFTMAX and FORMULA != LOG_SOFTMAX:
            write_rows(
                base,
                job,
                results,
                row,
                live,
                y,
                dropped,
                m,
                log_d,
                undefined,
                gaps,
                total,
                curve,
                at_first,
                FORMULA,
                OUTPUTS,
            )
        e = exp_nonpositive(x - rowwise(m))
        write_elements(
            base, job, results, row, y, dropped, x, e, u, c, first, lane, mask, m, x_y, ties, log_d, inverse,
            rest_share, undefined, total, others, curve, SOFT_LABELS, FORMULA, DTYPE, TARGET_DTYPE,
        )  # fmt: skip
