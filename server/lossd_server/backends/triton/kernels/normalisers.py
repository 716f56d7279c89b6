"""A row of any kind of numbers as a probability distribution: −ln q_c = gap_c + ln d, q_c = e_c/d. Device functions.

    LOGITS: gap m − x, e = exp(x − m)     LOG_PROBABILITIES: gap −u, e = exp(u), d = 1
    COUNTS: gap −ln(k/m), e = k/m         PROBABILITIES: gap −ln q, e = q, d = 1
with m the row's maximum, a its first index, rest = Σ_{c≠a} e_c, d = 1 + rest: q_a = 1/d, 1 − q_a = rest/d.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl

from lossd_server.backends.triton.descriptor import CLASSES, COUNTS, LOG_PROBABILITIES, LOGITS, NO_FAULT, PROBABILITIES
from lossd_server.backends.triton.kernels.arithmetic import divide, exp, log, log1p
from lossd_server.backends.triton.kernels.row_access import class_block, row_maximum
from lossd_server.backends.triton.kernels.typed_memory import load_operand
from lossd_server.backends.triton.kernels.work_item import WorkItem


class Distribution(NamedTuple):
    """How the rows of an operand are normalised: [TILE] each."""

    kind: tl.tensor  # a number
    m: tl.tensor
    a: tl.tensor  # −1 where nothing is normalised
    d: tl.tensor
    log_d: tl.tensor
    q_top: tl.tensor  # 1/d
    rest_q: tl.tensor  # rest/d
    invalid: tl.tensor  # the first class whose entry is NaN or a negative count; else NO_FAULT


@triton.jit
def gap(x: tl.tensor, m: tl.tensor, kind: tl.tensor, COMPUTE: tl.constexpr) -> tl.tensor:
    """−ln e. x/m from m/2 to m by the difference x − m, which is exact there."""
    if (kind == LOGITS) | (kind == LOG_PROBABILITIES):
        h = m - x
    else:
        near = (x + x > m) & (x <= m)
        h = -tl.where(near, log1p(divide(x - m, m, COMPUTE), COMPUTE), log(divide(x, m, COMPUTE), COMPUTE))
    return h


@triton.jit
def unnormalised(x: tl.tensor, m: tl.tensor, kind: tl.tensor, COMPUTE: tl.constexpr) -> tl.tensor:
    """e."""
    if (kind == LOGITS) | (kind == LOG_PROBABILITIES):
        e = exp(x - m, COMPUTE)
    else:
        e = divide(x, m, COMPUTE)
    return e


@triton.jit
def normalise(
    item: WorkItem,
    WORD: tl.constexpr,
    kind: tl.tensor,
    row: tl.tensor,
    COMPUTE: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> Distribution:
    """The rows of the operand at WORD."""
    m = tl.full([TILE], 0.0, COMPUTE)
    a = tl.full([TILE], -1, tl.int64)
    rest = tl.zeros([TILE], COMPUTE)
    invalid = tl.full([TILE], NO_FAULT, tl.int64)
    least = tl.full([], float("-inf"), COMPUTE)
    if kind == COUNTS:
        least = tl.full([], 0.0, COMPUTE)
    if kind == PROBABILITIES:
        m = tl.full([TILE], 1.0, COMPUTE)
    if (kind == LOGITS) | (kind == COUNTS):
        top = row_maximum(item, WORD, row, least, COMPUTE, TILE, BLOCK)
        m = top.m
        a = top.a
        invalid = top.invalid
        lanes = tl.zeros([TILE, BLOCK], COMPUTE)
        for begin in range(0, tl.load(item.job + CLASSES), BLOCK):
            block = class_block(item, row, begin, BLOCK)
            x = load_operand(item, WORD, block.index, block.mask, COMPUTE)
            others = block.mask & (block.c[None, :] != a[:, None])
            lanes += tl.where(others, unnormalised(x, m[:, None], kind, COMPUTE), 0.0)
        rest = tl.sum(lanes, 1)
    d = 1.0 + rest
    return Distribution(
        kind=kind,
        m=m,
        a=a,
        d=d,
        log_d=log1p(rest, COMPUTE),
        q_top=divide(tl.full([TILE], 1.0, COMPUTE), d, COMPUTE),
        rest_q=divide(rest, d, COMPUTE),
        invalid=invalid,
    )
