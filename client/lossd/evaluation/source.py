"""An array on disk: its path, shape and dtype, and how to read ranges of its items."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.command_error import CommandError

Read = Callable[[int, int], npt.NDArray[Any]]

_SPEC = re.compile(
    r"(?P<path>.+?\.(?P<suffix>npy|npz|safetensors|csv|parquet))(?::(?P<key>.*))?", re.IGNORECASE | re.DOTALL
)
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")


@dataclass(frozen=True, slots=True)
class ArrayPath:
    """`digits.npz:logits` split into path and key. key: an array's name, or columns; None if none was given."""

    text: str
    path: Path
    suffix: str
    key: str | None


@dataclass(frozen=True, slots=True)
class Source:
    """An array on disk. read: returns the items [start, stop) of dimension 0; of a scalar, the whole array.

    header: whether the first row of a .csv file was taken for its columns' names; None for other files. left_out:
    whether a column was left out although no columns were asked for: one without a name, a data frame's index.
    """

    place: ArrayPath
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Read = field(repr=False)
    header: bool | None = None
    left_out: bool = False

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
    """Parses `file` or `file:key`. Raises CommandError for an unknown suffix and for what is not a file."""
    matched = _SPEC.fullmatch(text)
    if matched is None:
        hint = "; decompress it first" if text.lower().endswith(_COMPRESSED) else ""
        raise CommandError(f"{text}: unsupported file type; expected .npy, .npz, .safetensors, .csv or .parquet{hint}")
    path = Path(matched["path"])
    try:
        found = path.stat()
    except FileNotFoundError:
        raise CommandError(f"{path}: no such file") from None
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}") from None
    if not S_ISREG(found.st_mode):
        what = "a folder" if S_ISDIR(found.st_mode) else "a pipe or a device, which can be read only once"
        raise CommandError(f"{path}: is {what}; give a file")
    return ArrayPath(text, path, matched["suffix"].lower(), matched["key"] or None)


@contextmanager
def reading(one: ArrayPath) -> Iterator[None]:
    """While a library reads `one`: what it raises becomes a CommandError with the file's name.

    Of whatever class: damaged files make the libraries raise a dozen, some of which they do not document.
    """
    try:
        yield
    except CommandError:
        raise
    except MemoryError as error:
        raise CommandError(f"{one.path}: does not fit in memory ({error})") from None
    except OSError as error:
        raise CommandError(f"{one.path}: {error.strerror or _first_line(error)}") from None
    except Exception as error:
        raise CommandError(f"{one.path}: cannot be read as .{one.suffix} ({_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def in_memory(one: ArrayPath, stored: npt.NDArray[Any]) -> Source:
    """A source whose array can be sliced."""
    return Source(one, stored.shape, stored.dtype, lambda start, stop: stored[start:stop] if stored.ndim else stored)
