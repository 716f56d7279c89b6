"""BCE: −w·[t·max(ln p, −100) + (1−t)·max(ln(1−p), −100)], with PyTorch's clamps."""

from __future__ import annotations

from typing import Any

from tests.oracle.elementwise import elementwise
from tests.oracle.exact import ONE, Number, log, log1p, mp, times
from tests.oracle.reducing import Reducing, Reference

LEAST_LOG = mp.mpf(-100)
LEAST_VARIANCE = mp.mpf(1e-12)  # the double nearest to 10⁻¹², as PyTorch has it


def element(p: Number, t: Number, w: Number) -> tuple[Number, Number, Number]:
    """Loss, d/dp, d/dt of one element."""
    log_p, log_q = max(log(p), LEAST_LOG), max(log1p(-p), LEAST_LOG)
    loss = -(times(t, log_p) + times(ONE - t, log_q))
    return times(w, loss), times(w, (p - t) / max(p * (ONE - p), LEAST_VARIANCE)), times(w, log_q - log_p)


def bce(input: Any, target: Any, *, weight: Any = None, **shared: Any) -> Reference:
    """input, target: in [0, 1], one shape; weight broadcasts to it."""
    return elementwise(element, input, target, (weight,), Reducing(**shared))
