"""KLDivergence by rows: a target of any kind beside an input of any kind. Device functions."""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl

from lossd_server.backends.triton.descriptor import (
    COUNTS,
    INPUT,
    KL_ROWS,
    LOG_PROBABILITIES,
    LOGITS,
    PROBABILITIES,
    TARGET,
    UPSTREAM,
)
from lossd_server.backends.triton.kernels.arithmetic import divide, log, times
from lossd_server.backends.triton.kernels.formulas import log_ratio, slope_of_probability
from lossd_server.backends.triton.kernels.normalisers import Distribution, gap, unnormalised
from lossd_server.backends.triton.kernels.row_access import ClassBlock, Rows, entry_of_class
from lossd_server.backends.triton.kernels.typed_memory import load_operand, load_view
from lossd_server.backends.triton.kernels.work_item import WorkItem


class Divergence(NamedTuple):
    """KLDivergence by rows: its target p, and h_c = s_c·((ln p_c − ln q_c) + added) for a target of logits.

    added is 1, and 0 where s is the same for all, since Σ p·(h − h_a) takes it out.
    """

    p: Distribution
    added: tl.tensor  # a number
    h_top: tl.tensor  # h at p's maximum: [TILE, 1]


@triton.jit
def minus_top(h: tl.tensor, h_top: tl.tensor, c: tl.tensor, a: tl.tensor) -> tl.tensor:
    """h − h_a, exactly 0 at c = a however the compiler contracts products; h where that is infinite."""
    h_top = tl.where(tl.abs(h_top) == float("inf"), 0.0, h_top)
    return tl.where((c[None, :] == a[:, None]) & (tl.abs(h) != float("inf")), 0.0, h - h_top)


@triton.jit
def begin_divergence(
    item: WorkItem, rows: Rows, q: Distribution, p: Distribution, COMPUTE: tl.constexpr, TILE: tl.constexpr
) -> Divergence:
    """What is the same for all of a row."""
    added = tl.where(tl.load(item.job + UPSTREAM) >= 0, 1.0, 0.0).to(COMPUTE)
    h_top = tl.zeros([TILE, 1], COMPUTE)
    if (item.formula == KL_ROWS) & (p.kind == LOGITS):
        at, exists = entry_of_class(item, rows.row, p.a)
        x = load_operand(item, INPUT, at, exists, COMPUTE)
        h_top = (gap(x, q.m[:, None], q.kind, COMPUTE) + (q.log_d - p.log_d)[:, None]) + added
        h_top = times(load_view(item, UPSTREAM, at, exists, COMPUTE), h_top)
    return Divergence(p=p, added=added, h_top=h_top)


@triton.jit
def target_and_log_ratio(
    item: WorkItem, block: ClassBlock, x: tl.tensor, q: Distribution, p: Distribution, COMPUTE: tl.constexpr
) -> tuple[tl.tensor, tl.tensor]:
    """p_c and ln p_c − ln q_c of a block, x being its input: [TILE, BLOCK] each."""
    z = load_operand(item, TARGET, block.index, block.mask, COMPUTE)
    m = q.m[:, None]
    p_c = unnormalised(z, p.m[:, None], p.kind, COMPUTE) * p.q_top[:, None]
    minus_log_q = gap(x, m, q.kind, COMPUTE) + (q.log_d[:, None] - p.log_d[:, None])
    ratio = log_ratio(p_c, minus_log_q, gap(z, p.m[:, None], p.kind, COMPUTE))
    if (q.kind == COUNTS) & (p.kind == PROBABILITIES):
        # One logarithm has fewer roundings than three, save at the maximum, where q may be near 1.
        direct = divide(p_c, unnormalised(x, m, q.kind, COMPUTE) * q.q_top[:, None], COMPUTE)
        below = block.c[None, :] != q.a[:, None]
        ratio = tl.where((direct > 1e-30) & (direct < 1e30) & below, log(direct, COMPUTE), ratio)
    return p_c, ratio


@triton.jit
def slope_by_target(
    q: Distribution,
    kl: Divergence,
    curve: tl.tensor,
    c: tl.tensor,
    minus_log_q: tl.tensor,
    s: tl.tensor,
    p_c: tl.tensor,
    ratio: tl.tensor,
) -> tl.tensor:
    """The gradient of KLDivergence by a block of its target; curve: Σ p·(h − h_a)."""
    if kl.p.kind == LOGITS:
        bend = minus_top(times(s, ratio + kl.added), kl.h_top, c, kl.p.a)
        dt = times(p_c, bend - curve[:, None])
    elif kl.p.kind == LOG_PROBABILITIES:
        dt = times(s, times(p_c, 1.0 + ratio))
    else:
        dt = times(s, slope_of_probability(p_c, minus_log_q, ratio))
    return dt
