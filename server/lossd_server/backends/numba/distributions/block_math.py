"""Block reductions of losses between distributions: Σ t·(ln t − ln q), or cross-entropy's Σ v·(−ln q); gradients.

Scratch rows of a block: q as it was given (INPUT), u = ln q (SLOPES), t or v (MIXED), ln t (TARGET_OUT), upstream
factors s (UPSTREAM), single losses (SINGLE). Without divergence the target is v, and ln t is 0.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from lossd_server.backends.numba.batch_table import COUNTS, LOG_PROBABILITIES, LOGITS, PROBABILITIES
from lossd_server.backends.numba.elementwise.formulas import log_quotient
from lossd_server.backends.numba.layout.blocks import GROUP
from lossd_server.backends.numba.layout.scratch import INPUT, MIXED, SINGLE, SLOPES, TARGET_OUT, UPSTREAM
from lossd_server.backends.numba.layout.weights import optional_number
from lossd_server.backends.numba.simd.exponential import exp_scale, scaled_exp
from lossd_server.backends.numba.simd.logarithm import log
from lossd_server.backends.numba.simd.math import exp, log_ratio, product
from lossd_server.backends.numba.simd.memory import cast, load, load_one, store, store_one
from lossd_server.backends.numba.simd.operations import splat, total, widen_sum, width
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.jobs.jit import device_function
from lossd_server.jobs.reduction import annihilate

INFINITY = float("inf")


class LossKinds(NamedTuple):
    """What a loss is between."""

    input: int  # a Kind
    target: int  # a Kind
    divergence: bool  # t·(ln t − ln q), else v·(−ln q)


@device_function
def write_logarithms(kind: int, at_input: int, to: int, state: Any, vectors: int, zero: Any) -> None:
    """ln q of a row's block, for q given in any kind."""
    refs = splat(cast(state.ref, zero))
    log_rest = splat(cast(state.log_rest, zero))
    norm = cast(state.mass, zero)
    norms = splat(norm)
    lost = splat(cast(state.mass - float(norm), zero))
    log_norms = log(norms)
    for j in range(vectors):
        q = load(at_input + j * BYTES, zero)
        if kind == LOGITS:
            u = ((refs - q) + log_rest) * -1.0
        elif kind == LOG_PROBABILITIES:
            u = q
        else:
            u = log(q)
            if kind == COUNTS:
                u = log_ratio(q, norms, lost, u - log_norms)
        store(to + j * BYTES, u)


@device_function
def write_probabilities(row: int, kind: int, state: Any, vectors: int, zero: Any) -> None:
    """t in the place of a target that was given as logits or logarithms."""
    if kind == PROBABILITIES:
        return
    by = exp_scale(splat(cast(state.ref, zero)))
    inverse = splat(cast(1.0 / ((1.0 + state.rest) * state.unit) if kind == LOGITS else 0.0, zero))
    for j in range(vectors):
        t = load(row + MIXED + j * BYTES, zero)
        store(row + MIXED + j * BYTES, scaled_exp(t, by) * inverse if kind == LOGITS else exp(t))


@device_function
def sum_losses(row: int, divergence: bool, weighted: bool, vectors: int, zero: Any) -> tuple[float, float, float]:
    """(Σ loss, Σ s·t, Σ s·loss) of a block; single losses are left in SINGLE."""
    losses = widen_sum(splat(zero))
    shares = losses
    means = losses
    one = splat(cast(1.0, zero))
    zeros = splat(zero)
    for group in range(0, vectors, GROUP):
        narrow = splat(zero)
        narrow_mean = splat(zero)
        for j in range(group, min(group + GROUP, vectors)):
            here = row + j * BYTES
            t = load(here + MIXED, zero)
            u = load(here + SLOPES, zero)
            loss = product(t, log_quotient(load(here + TARGET_OUT, zero), u) if divergence else zeros - u)
            s = load(here + UPSTREAM, zero) if weighted else one
            store(here + SINGLE, loss)
            shares = shares + widen_sum(product(s, t))
            narrow = narrow + loss
            narrow_mean = narrow_mean + product(s, loss)
        losses = losses + widen_sum(narrow)
        means = means + widen_sum(narrow_mean)
    return total(losses), total(shares), total(means)


@device_function
def sum_others(row: int, first: int, n: int, weighted: bool, state: Any, vectors: int, zero: Any) -> None:
    """Adds Σ s·t of a block without entry `first` to the state's `others`; that entry's s·t goes to `own`."""
    wide = widen_sum(splat(zero))
    at = row + MIXED + first * width(zero)
    inside = 0 <= first < n
    own = zero
    if inside:
        own = load_one(at, zero)
        state.own = annihilate(float(own), optional_number(row + UPSTREAM if weighted else 0, first, zero))
        store_one(at, zero)
    for j in range(vectors):
        t = load(row + MIXED + j * BYTES, zero)
        wide = wide + widen_sum(product(load(row + UPSTREAM + j * BYTES, zero), t) if weighted else t)
    state.others += total(wide)
    if inside:
        store_one(at, own)


@device_function
def write_exact_slope(row: int, first: int, n: int, kind: int, state: Any, zero: Any) -> None:
    """The input's gradient at the greatest logit or count, where it is a difference of near equals."""
    if not 0 <= first < n:
        return
    d = 1.0 + state.rest
    slope = state.others / d - annihilate(state.own, state.rest / d)
    if kind == COUNTS:
        k = state.maximum
        norm = state.mass
        slope = state.others / norm - annihilate(state.own, (norm - k) / norm / k)
    store_one(row + SLOPES + first * width(zero), cast(annihilate(state.factor, slope), zero))


@device_function
def write_slopes(
    row: int, kinds: LossKinds, weighted: bool, keep: float, weights: int, state: Any, vectors: int, zero: Any
) -> None:
    """Overwrites u with the input's gradient and ln t with the target's. keep, weights: 1 − ε of cross-entropy, and
    where class weights lie, or 0; weighted: whether there are upstream factors.
    """
    factor = splat(cast(state.factor, zero))
    mass = state.upstream_mass
    by = exp_scale(splat(cast(state.ref, zero)))
    norm = (1.0 + state.rest) * state.unit if kinds.input == LOGITS else state.mass
    # Where the factor, or what it multiplies, is infinite it comes last: a difference of infinities says nothing.
    late = not (abs(state.factor) < INFINITY and abs(mass) < INFINITY)
    of_all = splat(cast(mass / norm if late else state.factor * (mass / norm), zero))
    early = splat(cast(1.0 if late else state.factor, zero))
    mean = splat(cast(state.upstream_loss, zero))
    masses = splat(cast(mass, zero))
    one = splat(cast(1.0, zero))
    share = splat(cast(keep, zero))
    for j in range(vectors):
        here = row + j * BYTES
        x = load(here + INPUT, zero)
        u = load(here + SLOPES, zero)
        t = load(here + MIXED, zero)
        s = load(here + UPSTREAM, zero) if weighted else one
        a = product(s, t)
        if kinds.input == LOGITS:
            slope = product(scaled_exp(x, by), of_all) - product(a, early)
        elif kinds.input == LOG_PROBABILITIES:
            slope = product(a, early) * -1.0
        else:
            slope = product(product(a, early), one / x) * -1.0
            if kinds.input == COUNTS:
                slope = slope + of_all
        store(here + SLOPES, product(slope, factor) if late else slope)
        if not kinds.divergence:
            w = load(weights + j * BYTES, zero) if weights else one
            target_slope = product(product(w, share), u * -1.0)
        else:
            gap = log_quotient(load(here + TARGET_OUT, zero), u)
            if kinds.target == PROBABILITIES:
                target_slope = product(s, gap + 1.0)
            elif kinds.target == LOG_PROBABILITIES:
                target_slope = product(a, gap + 1.0)
            else:
                # With one s for all, s − Σ s t is 0.
                centred = product(s, gap) - mean
                target_slope = product(t, centred + (s - masses) if weighted else centred)
        store(here + TARGET_OUT, product(factor, target_slope))
