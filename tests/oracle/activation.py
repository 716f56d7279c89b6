"""The activations and their gradients: an upstream g times the Jacobian."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from tests.oracle.bce_with_logits import sigmoid, softplus
from tests.oracle.exact import ONE, ZERO, Number, Numbers, decode, full, times, total
from tests.oracle.reducing import Reference
from tests.oracle.softmax import softmax as normalised

Row = tuple[list[Number], list[Number]]  # values, d/dx of Σ g·value


def softmax_row(x: Sequence[Number], g: Sequence[Number]) -> Row:
    """p, and p·(g − Σ g·p); at the top p·(g·(1 − p) − Σ of the others), the sum taken apart."""
    soft = normalised(x)
    shares = [times(a, p) for a, p in zip(g, soft.p, strict=True)]
    mean = total(shares)
    slopes = [a - mean for a in g]
    others = total(share for c, share in enumerate(shares) if c != soft.top)
    slopes[soft.top] = times(g[soft.top], soft.rest) - others
    return soft.p, [times(p, slope) for p, slope in zip(soft.p, slopes, strict=True)]


def log_softmax_row(x: Sequence[Number], g: Sequence[Number]) -> Row:
    """ln p, and g − p·Σ g."""
    soft = normalised(x)
    return [-value for value in soft.surprise], [-value for value in soft.gradient(g)]


def sigmoid_row(x: Sequence[Number], g: Sequence[Number]) -> Row:
    """σ(x), and g·σ(x)·σ(−x)."""
    return [sigmoid(v) for v in x], [times(a, sigmoid(v), sigmoid(-v)) for v, a in zip(x, g, strict=True)]


def log_sigmoid_row(x: Sequence[Number], g: Sequence[Number]) -> Row:
    """−ln(1 + exp(−x)), and g·σ(−x)."""
    return [-softplus(-v) for v in x], [times(a, sigmoid(-v)) for v, a in zip(x, g, strict=True)]


def activation(
    each: Callable[[Sequence[Number], Sequence[Number]], Row],
    input: Any,
    *,
    dim: int | None = None,
    grad_output: Any = None,
    grad: Any = None,
) -> Reference:
    """input: any shape; a scalar is a row of one class. dim: 1, or 0 of a 1-D input, where None."""
    x = decode(input)
    g = full(x.shape, ONE) if grad_output is None else decode(grad_output)
    axis = dim if dim is not None else 1 if x.ndim > 1 else 0
    rows, upstream = (np.moveaxis(a.reshape(x.shape or (1,)), axis, -1) for a in (x, g))
    values, dx = full(rows.shape, ZERO), full(rows.shape, ZERO)
    for row in np.ndindex(rows.shape[:-1]):
        values[row], dx[row] = each(list(rows[row]), list(upstream[row]))

    def as_input(numbers: Numbers) -> Numbers:
        return np.moveaxis(numbers, -1, axis).reshape(x.shape)

    size = ZERO  # g − Σ g·p: equal upstream gradients leave nothing
    if each in (softmax_row, log_softmax_row):
        size = max((abs(v) for v in g.reshape(-1)), default=ZERO)
    return Reference(as_input(values), {"input": as_input(dx)}, None, None, 0, {"input": size})


softmax = partial(activation, softmax_row)
log_softmax = partial(activation, log_softmax_row)
sigmoid_of = partial(activation, sigmoid_row)
log_sigmoid = partial(activation, log_sigmoid_row)
