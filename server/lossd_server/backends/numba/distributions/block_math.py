"""Losses against ln q of a block: Σ t·(ln t − ln q), or cross-entropy's Σ v·(−ln q), and their gradients.

Scratch rows of a block: q as it was given, u = ln q, t (or v), ln t, upstream factors s, single losses.
`sides` = (input kind, target kind, divergence): without divergence the target is v, and ln t is 0.
"""

from __future__ import annotations

from typing import Any

from lossd_server.backends.numba.batch_table import COUNTS, LOG_PROBABILITIES, LOGITS, PROBABILITIES
from lossd_server.backends.numba.elementwise.formulas import log_quotient
from lossd_server.backends.numba.simd.math import exp, exp_gap, log, log_ratio
from lossd_server.backends.numba.simd.memory import cast, load, load_one, store, store_one
from lossd_server.backends.numba.simd.operations import splat, total, widen_sum, width
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.backends.numba.softmax import row_state as at
from lossd_server.backends.numba.softmax.block_sums import GROUP, times
from lossd_server.backends.numba.softmax.row_state import (
    INPUT,
    MIXED,
    SINGLE,
    SLOPES,
    TARGET_OUT,
    UPSTREAM,
    annihilate,
    optional_number,
)
from lossd_server.jobs.jit import device_function


@device_function
def take_logarithms(row: int, kind: int, x: int, logarithms: int, state: Any, steps: int, zero: Any) -> None:
    """Lays ln q of a row's block at `logarithms`, for q given in any kind at `x`."""
    refs = splat(cast(state[at.REF], zero))
    log_rest = splat(cast(state[at.LOG_REST], zero))
    norm = cast(state[at.MASS], zero)
    norms = splat(norm)
    lost = splat(cast(state[at.MASS] - float(norm), zero))
    log_norms = log(norms)
    for j in range(steps):
        q = load(row + x + j * BYTES, zero)
        if kind == LOGITS:
            u = ((refs - q) + log_rest) * -1.0
        elif kind == LOG_PROBABILITIES:
            u = q
        else:
            u = log(q)
            if kind == COUNTS:
                u = log_ratio(q, norms, lost, u - log_norms)
        store(row + logarithms + j * BYTES, u)


@device_function
def take_target(row: int, kind: int, state: Any, steps: int, zero: Any) -> None:
    """Makes t of a target that was given as logits or logarithms."""
    refs = splat(cast(state[at.REF], zero))
    inverse = splat(cast(1.0 / (1.0 + state[at.REST]), zero))
    if kind == PROBABILITIES:
        return
    for j in range(steps):
        t = load(row + MIXED + j * BYTES, zero)
        store(row + MIXED + j * BYTES, exp_gap(t, refs) * inverse if kind == LOGITS else exp(t))


@device_function
def add_losses(row: int, divergence: bool, weighted: bool, steps: int, zero: Any) -> tuple[float, float, float]:
    """(Σ loss, Σ s·t, Σ s·loss) of a block; single losses are left in SINGLE."""
    losses = widen_sum(splat(zero))
    shares = losses
    means = losses
    one = splat(cast(1.0, zero))
    nothing = splat(zero)
    for group in range(0, steps, GROUP):
        narrow = splat(zero)
        narrow_mean = splat(zero)
        for j in range(group, min(group + GROUP, steps)):
            here = row + j * BYTES
            t = load(here + MIXED, zero)
            u = load(here + SLOPES, zero)
            loss = times(t, log_quotient(load(here + TARGET_OUT, zero), u) if divergence else nothing - u)
            s = load(here + UPSTREAM, zero) if weighted else one
            store(here + SINGLE, loss)
            shares = shares + widen_sum(times(s, t))
            narrow = narrow + loss
            narrow_mean = narrow_mean + times(s, loss)
        losses = losses + widen_sum(narrow)
        means = means + widen_sum(narrow_mean)
    return total(losses), total(shares), total(means)


@device_function
def set_apart(row: int, first: int, n: int, weighted: bool, state: Any, steps: int, zero: Any) -> None:
    """Adds Σ s·t of a block without entry `first` to OTHERS; that entry's s·t goes to OWN."""
    wide = widen_sum(splat(zero))
    lies = row + MIXED + first * width(zero)
    inside = 0 <= first < n
    own = zero
    if inside:
        own = load_one(lies, zero)
        state[at.OWN] = float(own) * optional_number(row + UPSTREAM if weighted else 0, first, zero)
        store_one(lies, zero)
    for j in range(steps):
        t = load(row + MIXED + j * BYTES, zero)
        wide = wide + widen_sum(times(load(row + UPSTREAM + j * BYTES, zero), t) if weighted else t)
    state[at.OTHERS] += total(wide)
    if inside:
        store_one(lies, own)


@device_function
def exact_slope(row: int, first: int, n: int, kind: int, state: Any, zero: Any) -> None:
    """The input's gradient at the greatest logit or count, where it is a difference of near equals."""
    if not 0 <= first < n:
        return
    d = 1.0 + state[at.REST]
    slope = state[at.OTHERS] / d - state[at.OWN] * (state[at.REST] / d)
    if kind == COUNTS:
        k = state[at.MAXIMUM]
        norm = state[at.MASS]
        slope = state[at.OTHERS] / norm - annihilate(state[at.OWN], (norm - k) / norm / k)
    store_one(row + SLOPES + first * width(zero), cast(state[at.FACTOR] * slope, zero))


@device_function
def take_slopes(
    row: int, sides: Any, weighted: bool, keep: float, weights: int, state: Any, steps: int, zero: Any
) -> None:
    """Overwrites u with the input's gradient and ln t with the target's. keep, weights: 1 − ε of cross-entropy, and
    where class weights lie, or 0.
    """
    input_kind, target_kind, divergence = sides
    factor = splat(cast(state[at.FACTOR], zero))
    whole = state[at.SHARE]
    refs = splat(cast(state[at.REF], zero))
    norm = 1.0 + state[at.REST] if input_kind == LOGITS else state[at.MASS]
    of_all = splat(cast(state[at.FACTOR] * (whole / norm), zero))
    mean = splat(cast(state[at.GAPS], zero))
    wholes = splat(cast(whole, zero))
    one = splat(cast(1.0, zero))
    share = splat(cast(keep, zero))
    for j in range(steps):
        here = row + j * BYTES
        x = load(here + INPUT, zero)
        u = load(here + SLOPES, zero)
        t = load(here + MIXED, zero)
        s = load(here + UPSTREAM, zero) if weighted else one
        a = times(s, t)
        if input_kind == LOGITS:
            slope = exp_gap(x, refs) * of_all - a * factor
        elif input_kind == LOG_PROBABILITIES:
            slope = times(a, factor) * -1.0
        else:
            slope = times(times(a, factor), one / x) * -1.0
            if input_kind == COUNTS:
                slope = slope + of_all
        store(here + SLOPES, slope)
        if not divergence:
            w = load(weights + j * BYTES, zero) if weights else one
            target_slope = times(times(w, share), u * -1.0)
        else:
            gap = log_quotient(load(here + TARGET_OUT, zero), u)
            if target_kind == PROBABILITIES:
                target_slope = times(s, gap + 1.0)
            elif target_kind == LOG_PROBABILITIES:
                target_slope = times(a, gap + 1.0)
            else:
                # With one s for all, s − Σ s t is 0.
                centred = times(s, gap) - mean
                target_slope = times(t, centred + (s - wholes) if weighted else centred)
        store(here + TARGET_OUT, times(factor, target_slope))
