"""Loads and stores of any element type, computed in float32 or float64. Device functions.

WORD: the word of the job's descriptor that holds the byte offset; its dtype follows it.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lossd_server.backends.triton.descriptor import (
    BFLOAT16,
    FLOAT8_E4M3FN,
    FLOAT8_E5M2,
    FLOAT16,
    FLOAT32,
    VIEW_DTYPE,
    VIEW_LAST,
    VIEW_MIDDLE,
    VIEW_OFFSET,
    VIEW_S0,
    VIEW_S1,
    VIEW_S2,
)
from lossd_server.backends.triton.kernels.work_item import WorkItem


@triton.jit
def load(start: tl.tensor, index: tl.tensor, mask: tl.tensor, dtype: tl.tensor, COMPUTE: tl.constexpr) -> tl.tensor:
    """Elements `index` of the operand at byte pointer `start`, in COMPUTE; 0 where masked."""
    if dtype == FLOAT32:
        x = tl.load(start.to(tl.pointer_type(tl.float32)) + index, mask=mask, other=0.0).to(COMPUTE)
    elif dtype == BFLOAT16:
        # The upper half of a float32, put together by hand: one path on every device and in the interpreter.
        bits = tl.load(start.to(tl.pointer_type(tl.uint16)) + index, mask=mask, other=0).to(tl.uint32)
        x = (bits << 16).to(tl.float32, bitcast=True).to(COMPUTE)
    elif dtype == FLOAT16:
        x = tl.load(start.to(tl.pointer_type(tl.float16)) + index, mask=mask, other=0.0).to(COMPUTE)
    elif dtype == FLOAT8_E5M2:
        bits = tl.load(start.to(tl.pointer_type(tl.uint8)) + index, mask=mask, other=0).to(tl.uint16)
        x = (bits << 8).to(tl.float16, bitcast=True).to(COMPUTE)
    elif dtype == FLOAT8_E4M3FN:
        # In the place of a float16's bits, whose bias is 15 and not 7, it is the number over 256; NaN is all ones.
        bits = tl.load(start.to(tl.pointer_type(tl.uint8)) + index, mask=mask, other=0).to(tl.uint16)
        half = ((bits & 0x7F) << 7) | ((bits & 0x80) << 8)
        x = (half.to(tl.float16, bitcast=True).to(tl.float32) * 256.0).to(COMPUTE)
        x = tl.where((bits & 0x7F) == 0x7F, float("nan"), x)
    else:
        x = tl.load(start.to(tl.pointer_type(tl.float64)) + index, mask=mask, other=0.0).to(COMPUTE)
    return x


@triton.jit
def load_operand(
    item: WorkItem, WORD: tl.constexpr, index: tl.tensor, mask: tl.tensor, COMPUTE: tl.constexpr
) -> tl.tensor:
    """Elements `index` of an operand; 0 where masked."""
    return load(item.operands + tl.load(item.job + WORD), index, mask, tl.load(item.job + WORD + 1), COMPUTE)


@triton.jit
def load_view(
    item: WorkItem, WORD: tl.constexpr, index: tl.tensor, mask: tl.tensor, COMPUTE: tl.constexpr
) -> tl.tensor:
    """Elements `index`, in the input's C order, of a broadcast operand; 1 where it is absent."""
    x = tl.full(index.shape, 1.0, COMPUTE)
    view = item.job + WORD
    offset = tl.load(view + VIEW_OFFSET)
    if offset >= 0:
        middle = tl.load(view + VIEW_MIDDLE)
        last = tl.load(view + VIEW_LAST)
        at = index // last
        place = at // middle * tl.load(view + VIEW_S0)
        place += at % middle * tl.load(view + VIEW_S1) + index % last * tl.load(view + VIEW_S2)
        x = load(item.operands + offset, place, mask, tl.load(view + VIEW_DTYPE), COMPUTE)
    return x


@triton.jit
def load_number(item: WorkItem, WORD: tl.constexpr) -> tl.tensor:
    """A float64 of the descriptor."""
    return tl.load(item.job + WORD).to(tl.float64, bitcast=True)


@triton.jit
def load_per_row(item: WorkItem, offset: tl.tensor, row: tl.tensor, live: tl.tensor) -> tl.tensor:
    """Float64 entries `row` of the vector at byte `offset`; 1 where it is absent."""
    x = tl.full(row.shape, 1.0, tl.float64)
    if offset >= 0:
        x = tl.load((item.operands + offset).to(tl.pointer_type(tl.float64)) + row, mask=live, other=1.0)
    return x


@triton.jit
def store_per_row(item: WorkItem, offset: tl.tensor, row: tl.tensor, live: tl.tensor, value: tl.tensor) -> None:
    """Writes one float64 a row at byte `offset`, where there is room for them."""
    if offset >= 0:
        tl.store((item.results + offset).to(tl.pointer_type(tl.float64)) + row, value.to(tl.float64), mask=live)


@triton.jit
def store(item: WorkItem, WORD: tl.constexpr, index: tl.tensor, mask: tl.tensor, value: tl.tensor) -> None:
    """Writes elements `index` of a result, rounded to nearest even."""
    start = item.results + tl.load(item.job + WORD)
    dtype = tl.load(item.job + WORD + 1)
    if dtype == FLOAT32:
        tl.store(start.to(tl.pointer_type(tl.float32)) + index, value.to(tl.float32), mask=mask)
    elif dtype == BFLOAT16:
        bits = value.to(tl.float32).to(tl.uint32, bitcast=True)
        half = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        half = tl.where(value != value, 0x7FC0, half)
        tl.store(start.to(tl.pointer_type(tl.uint16)) + index, half.to(tl.uint16), mask=mask)
    elif dtype == FLOAT16:
        tl.store(start.to(tl.pointer_type(tl.float16)) + index, value.to(tl.float16), mask=mask)
    else:
        tl.store(start.to(tl.pointer_type(tl.float64)) + index, value.to(tl.float64), mask=mask)
