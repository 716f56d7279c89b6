"""What the elementwise losses share: one loss an element, mean over their number, operands that broadcast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.oracle.exact import ONE, ZERO, Number, Numbers, decode, full, mp, times
from tests.oracle.reducing import Reducing, Reference

# (input, target, *operands of one element) → loss, d/d input, d/d target
Element = Callable[..., tuple[Number, Number, Number]]


def elementwise(element: Element, input: Any, target: Any, operands: tuple[Any, ...], reducing: Reducing) -> Reference:
    """operands: each broadcasts to the input's shape; None stands for ones."""
    x, t = decode(input), decode(target)
    aligned = [full(x.shape, ONE) if o is None else np.broadcast_to(decode(o), x.shape) for o in operands]
    s = reducing.scales(x.shape, mp.mpf(x.size), x.size)
    losses: Numbers = full(x.shape, ZERO)
    dx, dt = full(x.shape, ZERO), full(x.shape, ZERO)
    for at in np.ndindex(x.shape):
        loss, by_input, by_target = element(x[at], t[at], *(operand[at] for operand in aligned))
        losses[at], dx[at], dt[at] = loss, times(s[at], by_input), times(s[at], by_target)
    return reducing.finish(losses, mp.mpf(x.size), x.size, {"input": dx, "target": dt})
