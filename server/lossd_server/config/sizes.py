"""Sizes as people write them: a number of bytes, with or without a unit."""

from __future__ import annotations

import re

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def number_of_bytes(text: str) -> int:
    """16MiB, 1GB, 1000000. Raises ValueError with the rest of a sentence."""
    match = re.fullmatch(r"(\d+)\s*([a-z]*)", text.lower(), re.ASCII)
    if match is None or match[2] not in _UNITS:
        raise ValueError("is not a size; expected a number of bytes such as 16MiB or 1000000")
    return int(match[1]) * _UNITS[match[2]]
