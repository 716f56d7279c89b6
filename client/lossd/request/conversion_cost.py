"""Conversion cost: whether tensors are taken at once, or only after a conversion that an event loop would wait for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

# Up to here a conversion takes well below a millisecond.
_QUICK_BYTES, _QUICK_NUMBERS = 1 << 20, 10_000


def is_quick(value: Any) -> bool:
    """Whether `take` of it copies and converts next to nothing: so that an event loop may wait for it."""
    if isinstance(value, np.ndarray):
        return True
    if isinstance(value, list | tuple):
        inner = value[0] if value else None
        return len(value) * (len(inner) if isinstance(inner, list | tuple | np.ndarray) else 1) <= _QUICK_NUMBERS
    nbytes = getattr(value, "nbytes", 0)
    return hasattr(value, "__dlpack__") or not isinstance(nbytes, int) or nbytes <= _QUICK_BYTES


def are_quick(operands: Iterable[Any], options: Mapping[str, Any]) -> bool:
    """Whether that holds of every tensor of a call, and of whatever else it is asked with."""
    for value in operands:
        if type(value) is not np.ndarray and not is_quick(value):
            return False
    return not options or all(map(is_quick, options.values()))
