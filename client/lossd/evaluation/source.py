"""An array on disk: its path, shape and dtype, and how to read ranges of its items."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.command_error import CommandError

Read = Callable[[int, int], npt.NDArray[Any]]

_SPEC = re.compile(r"(?P<path>.+?\.(?P<suffix>npy|npz|safetensors|csv|parquet))(?::(?P<key>.+))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ArrayPath:
    """`digits.npz:logits` split into path and key. key: an array's name, or columns; None if none was given."""

    text: str
    path: Path
    suffix: str
    key: str | None


@dataclass(frozen=True, slots=True)
class Source:
    """An array on disk. read: returns the items [start, stop) of dimension 0; of a scalar, the whole array."""

    place: ArrayPath
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Read = field(repr=False)

    @property
    def items(self) -> int:
        return self.shape[0] if self.shape else 1

    @property
    def nbytes(self) -> int:
        return self.dtype.itemsize * prod(self.shape)

    @property
    def item_bytes(self) -> int:
        return self.dtype.itemsize * prod(self.shape[1:])

    def whole(self) -> npt.NDArray[Any]:
        return self.read(0, self.items)


def array_path(text: str) -> ArrayPath:
    """Parses `file` or `file:key`. Raises CommandError for an unknown suffix or a missing file."""
    matched = _SPEC.fullmatch(text)
    if matched is None:
        raise CommandError(f"{text}: unsupported file type; expected .npy, .npz, .safetensors, .csv or .parquet")
    path = Path(matched["path"])
    if not path.is_file():
        raise CommandError(f"{path}: no such file")
    return ArrayPath(text, path, matched["suffix"].lower(), matched["key"])


def in_memory(one: ArrayPath, stored: npt.NDArray[Any]) -> Source:
    """A source whose array can be sliced."""
    return Source(one, stored.shape, stored.dtype, lambda start, stop: stored[start:stop] if stored.ndim else stored)
