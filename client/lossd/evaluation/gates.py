"""Gates: what makes the exit status tell a loss that is too great, or worse than another run's. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lossd.evaluation.comparing.comparison import Comparison


def above(loss: float, bound: float | None) -> Iterator[str]:
    """Why --fail-above fails, if it does. A NaN is above every bound."""
    if bound is not None and not loss <= bound:
        yield "the loss is NaN" if math.isnan(loss) else f"loss {loss:.9g} exceeds --fail-above {bound:g}"


def worse(found: Comparison | None, unit: str, allowed: float | None) -> Iterator[str]:
    """Why --fail-if-worse fails, if it does: the whole interval lies above `allowed`. So does one that nobody knows,
    for then nothing says that the loss is not worse."""
    if found is None or allowed is None:
        return
    if found.low is None or found.high is None:
        yield f"--fail-if-worse cannot tell: no confidence interval against {found.file}: {found.note}"
    elif found.low > allowed:
        by = f" by more than --fail-if-worse {allowed:g}" if allowed else ""
        yield (
            f"the loss is worse than in {found.file}{by}: {found.difference:+.6g} {unit}, "
            f"95 % from {found.low:+.4g} to {found.high:+.4g}"
        )
