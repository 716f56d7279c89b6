"""SelfInformation: −ln p of every element, and −1/p."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.oracle.exact import decode, log, mp, times
from tests.oracle.kinds import inverse
from tests.oracle.reducing import Reducing, Reference


def self_information(input: Any, *, reduction: str = "none", **shared: Any) -> Reference:
    """input: any shape."""
    reducing = Reducing(reduction=reduction, **shared)
    p = decode(input)
    s = reducing.scales(p.shape, mp.mpf(p.size), p.size)
    losses, dp = np.empty(p.shape, object), np.empty(p.shape, object)
    for at in np.ndindex(p.shape):
        losses[at], dp[at] = -log(p[at]), -times(s[at], inverse(p[at]))
    return reducing.finish(losses, mp.mpf(p.size), p.size, {"input": dp})
