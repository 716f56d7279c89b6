"""The class weights' gradient: dw_c = Σ over rows, in index order, of factor · t'_c · (−log p_c), added in float64."""

from __future__ import annotations

import triton
import triton.language as tl

from lossd_server.backends.triton.descriptor import (
    CLASSES,
    FAULTS,
    INPUT,
    INPUT_KIND,
    ITEM,
    NO_FAULT,
    ROWS,
    STATES,
    WEIGHT_GRADIENT,
    WEIGHT_START,
    WORDS,
)
from lossd_server.backends.triton.kernels.arithmetic import times
from lossd_server.backends.triton.kernels.normalisers import gap
from lossd_server.backends.triton.kernels.row_access import class_offsets, logits, row_factors, smoothed_target


@triton.jit(do_not_specialize=["item", "work"])
def class_weight_gradient_kernel(
    words: tl.tensor,
    out: tl.tensor,
    item: tl.tensor,
    work: tl.tensor,
    COMPUTE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One program: BLOCK classes of one job, one row after the other, with m and ln d that the rows' kernel left."""
    number = item + tl.program_id(0)
    job = words + tl.load(words + work + ITEM * number) * WORDS
    base = words.to(tl.pointer_type(tl.uint8))
    results = out.to(tl.pointer_type(tl.uint8))
    for kind in tl.static_range(FAULTS):
        tl.store(out + FAULTS * number + kind, NO_FAULT)
    begin = tl.load(words + work + ITEM * number + 1) * BLOCK
    kind = tl.load(job + INPUT_KIND)
    states = (results + tl.load(job + STATES)).to(tl.pointer_type(tl.float64))
    c = begin + tl.arange(0, BLOCK)[None, :]
    exists = c < tl.load(job + CLASSES)
    total = tl.zeros([1, BLOCK], tl.float64)
    earlier = tl.load(job + WEIGHT_START)
    if earlier >= 0:
        total = tl.load((base + earlier).to(tl.pointer_type(tl.float64)) + c, mask=exists, other=0.0)
    for n in range(tl.load(job + ROWS)):
        row = n + tl.arange(0, 1).to(tl.int64)
        _, index, mask = class_offsets(job, row, begin, BLOCK)
        x = logits(base, job, job + INPUT, index, mask, COMPUTE)
        m = tl.load(states + 2 * row).to(COMPUTE)[:, None]
        nats = gap(x, m, kind, COMPUTE) + tl.load(states + 2 * row + 1).to(COMPUTE)[:, None]
        _, factor = row_factors(base, job, row)
        u = smoothed_target(base, job, index, mask, COMPUTE).to(tl.float64)
        total += times(factor[:, None], times(u, nats.to(tl.float64)))
    out_at = (results + tl.load(job + WEIGHT_GRADIENT)).to(tl.pointer_type(tl.float64))
    tl.store(out_at + c, total, mask=exists)
