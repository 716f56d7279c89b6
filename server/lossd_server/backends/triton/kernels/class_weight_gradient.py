"""The class weights' gradient: dw_c = Σ over rows, in index order, of factor · t'_c · (−log p_c), added in float64."""

from __future__ import annotations

import triton
import triton.language as tl

from lossd_server.backends.triton.descriptor import (
    CLASSES,
    INPUT,
    INPUT_KIND,
    NO_FAULT,
    ROWS,
    STATES,
    WEIGHT_GRADIENT,
    WEIGHT_START,
)
from lossd_server.backends.triton.kernels.arithmetic import times
from lossd_server.backends.triton.kernels.normalisers import gap
from lossd_server.backends.triton.kernels.row_access import class_block, load_logits, row_factors, smoothed_target
from lossd_server.backends.triton.kernels.work_item import load_work_item, store_faults


@triton.jit(do_not_specialize=["first_item", "work_list"])
def class_weight_gradient_kernel(
    words: tl.tensor,
    out: tl.tensor,
    first_item: tl.tensor,
    work_list: tl.tensor,
    COMPUTE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One program: BLOCK classes of one job, one row after the other, with m and ln d that the rows' kernel left."""
    item = load_work_item(words, out, first_item, work_list)
    store_faults(item, NO_FAULT, NO_FAULT, NO_FAULT)
    begin = item.tile * BLOCK
    kind = tl.load(item.job + INPUT_KIND)
    states = (item.results + tl.load(item.job + STATES)).to(tl.pointer_type(tl.float64))
    c = begin + tl.arange(0, BLOCK)[None, :]
    exists = c < tl.load(item.job + CLASSES)
    total = tl.zeros([1, BLOCK], tl.float64)
    earlier = tl.load(item.job + WEIGHT_START)
    if earlier >= 0:
        total = tl.load((item.operands + earlier).to(tl.pointer_type(tl.float64)) + c, mask=exists, other=0.0)
    for n in range(tl.load(item.job + ROWS)):
        row = n + tl.arange(0, 1).to(tl.int64)
        block = class_block(item, row, begin, BLOCK)
        x = load_logits(item, INPUT, block, COMPUTE)
        m = tl.load(states + 2 * row).to(COMPUTE)[:, None]
        nats = gap(x, m, kind, COMPUTE) + tl.load(states + 2 * row + 1).to(COMPUTE)[:, None]
        _, factor = row_factors(item, row)
        u = smoothed_target(item, block, COMPUTE).to(tl.float64)
        total += times(factor[:, None], times(u, nats.to(tl.float64)))
    out_at = (item.results + tl.load(item.job + WEIGHT_GRADIENT)).to(tl.pointer_type(tl.float64))
    tl.store(out_at + c, total, mask=exists)
