"""Legacy reduction: PyTorch's deprecated size_average and reduce."""

from __future__ import annotations

import sys
import warnings
from typing import Any


def replace(options: dict[str, Any]) -> None:
    """Puts the reduction that size_average and reduce mean in their place, and warns (torch.nn._reduction).

    As in PyTorch they prevail over `reduction`, and each is True where only the other is given.
    """
    size_average, reduce = options.pop("size_average", None), options.pop("reduce", None)
    if size_average is None and reduce is None:
        return
    if reduce is False:
        meant = "none"
    else:
        meant = "sum" if size_average is False else "mean"
    options["reduction"] = meant
    warnings.warn(
        f"size_average and reduce are deprecated: say reduction={meant!r} instead",
        UserWarning,
        stacklevel=_frames_of_ours(),
    )


def _frames_of_ours() -> int:
    """The stack level, seen from the caller, of the first frame outside this package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == "lossd":
        frame, level = frame.f_back, level + 1
    return level
