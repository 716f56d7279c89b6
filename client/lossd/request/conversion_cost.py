"""Conversion cost: whether tensors are taken at once, or only after a conversion that an event loop would wait for.

numpy converts a list without letting other threads run: a long one is converted in pieces.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

# Up to here a conversion takes well below a millisecond.
_QUICK_BYTES, _QUICK_NUMBERS = 1 << 20, 10_000
# Of a list that is converted in one go: about a millisecond's.
_PIECE_NUMBERS = 20_000


def is_quick(value: Any) -> bool:
    """Whether `take` of it copies and converts next to nothing: so that an event loop may wait for it."""
    if isinstance(value, np.ndarray):
        return True
    if isinstance(value, list | tuple):
        return len(value) * _row_numbers(value) <= _QUICK_NUMBERS
    if value is None or isinstance(value, bool | int | float | str | np.generic) or hasattr(value, "__dlpack__"):
        return True
    nbytes = getattr(value, "nbytes", None)
    if isinstance(nbytes, int):
        return nbytes <= _QUICK_BYTES
    return (
        not isinstance(value, range) and not hasattr(value, "__array__") and not hasattr(value, "__array_interface__")
    )


def as_array(value: Any) -> npt.NDArray[Any]:
    """What numpy makes of it: of a list in pieces, so that other threads run in between. Raises as numpy does."""
    if isinstance(value, range):
        return np.arange(value.start, value.stop, value.step)
    if not isinstance(value, list | tuple):
        return np.asarray(value)
    rows = max(1, _PIECE_NUMBERS // _row_numbers(value))
    if len(value) <= rows:
        return np.asarray(value)
    return np.concatenate([np.asarray(value[start : start + rows]) for start in range(0, len(value), rows)])


def _row_numbers(value: Sequence[Any]) -> int:
    """About how many numbers an entry of the list has: as many as its first."""
    first = value[0] if value else None
    if isinstance(first, np.ndarray):
        return max(1, first.size)
    return max(1, len(first) * _row_numbers(first)) if isinstance(first, list | tuple) else 1


def are_quick(operands: Iterable[Any], options: Mapping[str, Any]) -> bool:
    """Whether that holds of every tensor of a call, and of whatever else it is asked with."""
    for value in operands:
        if type(value) is not np.ndarray and not is_quick(value):
            return False
    return not options or all(map(is_quick, options.values()))
