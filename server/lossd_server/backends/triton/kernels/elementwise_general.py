"""One loss an element: runs of 4,096 elements whose losses are added in float64. The formulas are in formulas.py."""

from __future__ import annotations

import triton
import triton.language as tl

from lossd_server.backends.triton.descriptor import (
    CHUNK,
    INPUT,
    NO_FAULT,
    POS_WEIGHT,
    ROWS,
    RUNS,
    TARGET,
    VALUES,
    WEIGHT,
)
from lossd_server.backends.triton.kernels.arithmetic import times
from lossd_server.backends.triton.kernels.elementwise_epilogue import store_gradients, store_run_sum
from lossd_server.backends.triton.kernels.formulas import element_loss, invalid_elements
from lossd_server.backends.triton.kernels.typed_memory import load_operand, load_view, store
from lossd_server.backends.triton.kernels.work_item import load_work_item, store_faults


@triton.jit(do_not_specialize=["first_item", "work_list"])
def elementwise_general_kernel(
    words: tl.tensor,
    out: tl.tensor,
    first_item: tl.tensor,
    work_list: tl.tensor,
    COMPUTE: tl.constexpr,
    RUN: tl.constexpr,
) -> None:
    """One program: one run of one chunk of one job. Arguments as of `softmax_general_kernel`."""
    item = load_work_item(words, out, first_item, work_list)
    runs = tl.load(item.job + RUNS)
    chunk = tl.load(item.job + CHUNK)
    index = item.tile // runs * chunk + item.tile % runs * RUN + tl.arange(0, RUN)
    mask = (index < (item.tile // runs + 1) * chunk) & (index < tl.load(item.job + ROWS))
    x = load_operand(item, INPUT, index, mask, COMPUTE)
    t = x
    if tl.load(item.job + TARGET) >= 0:
        t = load_operand(item, TARGET, index, mask, COMPUTE)
    pw = load_view(item, POS_WEIGHT, index, mask, COMPUTE)
    w = load_view(item, WEIGHT, index, mask, COMPUTE)

    bad_input, bad_target = invalid_elements(item.formula, x, t)
    first_input = tl.min(tl.where(mask & bad_input, index, NO_FAULT), 0)
    first_target = tl.min(tl.where(mask & bad_target, index, NO_FAULT), 0)
    store_faults(item, first_input, first_target, NO_FAULT)

    value, dx, dt = element_loss(item, item.formula, x, t, pw, COMPUTE, True)
    value = times(w, value)
    store_run_sum(item, value, mask)
    if tl.load(item.job + VALUES) >= 0:
        store(item, VALUES, index, mask, value)
    store_gradients(item, index, mask, w, dx, dt, COMPUTE)
