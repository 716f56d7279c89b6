"""One loss an element: runs of 4,096 elements whose losses are added in float64. The formulas are in formulas.py."""

from __future__ import annotations

import triton
import triton.language as tl

from lossd_server.backends.triton.descriptor import (
    CHUNK,
    FAULTS,
    FORMULA,
    INPUT,
    INPUT_DTYPE,
    INPUT_GRADIENT,
    INPUT_GRADIENT_DTYPE,
    ITEM,
    NO_FAULT,
    POS_WEIGHT,
    ROWS,
    RUN_SUMS,
    RUNS,
    SCALE_BITS,
    TARGET,
    TARGET_DTYPE,
    TARGET_GRADIENT,
    TARGET_GRADIENT_DTYPE,
    UPSTREAM,
    VALUES,
    VALUES_DTYPE,
    WEIGHT,
    WORDS,
)
from lossd_server.backends.triton.kernels.arithmetic import times
from lossd_server.backends.triton.kernels.formulas import element_loss, invalid_elements
from lossd_server.backends.triton.kernels.typed_memory import load, load_number, load_view, store


@triton.jit(do_not_specialize=["item", "work"])
def elementwise_general_kernel(
    words: tl.tensor, out: tl.tensor, item: tl.tensor, work: tl.tensor, COMPUTE: tl.constexpr, RUN: tl.constexpr
) -> None:
    """One program: one run of one chunk of one job. Arguments as of `softmax_general_kernel`."""
    number = item + tl.program_id(0)
    job = words + tl.load(words + work + ITEM * number) * WORDS
    base = words.to(tl.pointer_type(tl.uint8))
    results = out.to(tl.pointer_type(tl.uint8))
    tile = tl.load(words + work + ITEM * number + 1)
    runs = tl.load(job + RUNS)
    chunk = tl.load(job + CHUNK)
    index = tile // runs * chunk + tile % runs * RUN + tl.arange(0, RUN)
    mask = (index < (tile // runs + 1) * chunk) & (index < tl.load(job + ROWS))
    x = load(base, tl.load(job + INPUT), index, mask, tl.load(job + INPUT_DTYPE), COMPUTE)
    t = x
    target = tl.load(job + TARGET)
    if target >= 0:
        t = load(base, target, index, mask, tl.load(job + TARGET_DTYPE), COMPUTE)
    pw = load_view(base, job + POS_WEIGHT, index, mask, COMPUTE)
    w = load_view(base, job + WEIGHT, index, mask, COMPUTE)

    formula = tl.load(job + FORMULA)
    bad_input, bad_target = invalid_elements(formula, x, t)
    fault = out + FAULTS * number
    tl.store(fault, tl.min(tl.where(mask & bad_input, index, NO_FAULT), 0))
    tl.store(fault + 1, tl.min(tl.where(mask & bad_target, index, NO_FAULT), 0))
    tl.store(fault + 2, NO_FAULT)

    value, dx, dt = element_loss(job, formula, x, t, pw, COMPUTE, True)
    value = times(w, value)
    run_sums = tl.load(job + RUN_SUMS)
    if run_sums >= 0:
        sums = (results + run_sums).to(tl.pointer_type(tl.float64))
        tl.store(sums + tile, tl.sum(tl.where(mask, value.to(tl.float64), 0.0), 0))
    values = tl.load(job + VALUES)
    if values >= 0:
        store(results, values, index, mask, tl.load(job + VALUES_DTYPE), value)
    dx_offset = tl.load(job + INPUT_GRADIENT)
    dt_offset = tl.load(job + TARGET_GRADIENT)
    if (dx_offset >= 0) | (dt_offset >= 0):
        upstream = load_view(base, job + UPSTREAM, index, mask, COMPUTE)
        scale = times(times(load_number(job + SCALE_BITS).to(COMPUTE), upstream), w)
        if dx_offset >= 0:
            store(results, dx_offset, index, mask, tl.load(job + INPUT_GRADIENT_DTYPE), times(scale, dx))
        if dt_offset >= 0:
            store(results, dt_offset, index, mask, tl.load(job + TARGET_GRADIENT_DTYPE), times(scale, dt))
