"""An operand of any kind, read as −ln q_c = gap_c + ln d, q_c = e_c/d. Device functions.

    LOGITS: gap m − x, e = exp(x − m)     LOG_PROBABILITIES: gap −u, e = exp(u), d = 1
    COUNTS: gap −ln(k/m), e = k/m         PROBABILITIES: gap −ln q, e = q, d = 1
with m the row's maximum, a its first index, rest = Σ_{c≠a} e_c, d = 1 + rest: q_a = 1/d, 1 − q_a = rest/d.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lossd_server.backends.triton.descriptor import CLASSES, COUNTS, LOG_PROBABILITIES, LOGITS, NO_FAULT, PROBABILITIES
from lossd_server.backends.triton.kernels.arithmetic import divide, exp, log, log1p
from lossd_server.backends.triton.kernels.row_access import class_offsets, max_and_argmax
from lossd_server.backends.triton.kernels.typed_memory import load_operand


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
def normaliser(
    base: tl.tensor,
    job: tl.tensor,
    operand: tl.tensor,
    kind: tl.tensor,
    row: tl.tensor,
    COMPUTE: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """m, a, rest, and the first class whose entry is NaN or a negative count; a is −1 where nothing is normalised."""
    m = tl.full([TILE], 0.0, COMPUTE)
    a = tl.full([TILE], -1, tl.int64)
    rest = tl.zeros([TILE], COMPUTE)
    wrong = tl.full([TILE], NO_FAULT, tl.int64)
    least = tl.full([], float("-inf"), COMPUTE)
    if kind == COUNTS:
        least = tl.full([], 0.0, COMPUTE)
    if kind == PROBABILITIES:
        m = tl.full([TILE], 1.0, COMPUTE)
    if (kind == LOGITS) | (kind == COUNTS):
        m, a, wrong = max_and_argmax(base, job, operand, row, least, COMPUTE, TILE, BLOCK)
        lanes = tl.zeros([TILE, BLOCK], COMPUTE)
        for begin in range(0, tl.load(job + CLASSES), BLOCK):
            c, index, mask = class_offsets(job, row, begin, BLOCK)
            x = load_operand(base, operand, index, mask, COMPUTE)
            lanes += tl.where(mask & (c[None, :] != a[:, None]), unnormalised(x, m[:, None], kind, COMPUTE), 0.0)
        rest = tl.sum(lanes, 1)
    return m, a, rest, wrong
