"""An array on disk: its path, shape and dtype, and how to read ranges of its items."""

from __future__ import annotations

import glob
import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from math import prod
from pathlib import Path
from stat import S_ISREG
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.command_error import CommandError

Read = Callable[[int, int], npt.NDArray[Any]]

_SPEC = re.compile(
    r"(?P<path>.+?\.(?P<suffix>npy|npz|safetensors|csv|tsv|parquet))(?::(?P<key>.*))?", re.IGNORECASE | re.DOTALL
)
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")


@dataclass(frozen=True, slots=True)
class ArrayPath:
    """`digits.npz:logits` split into path and key. key: an array's name, or columns; None if none was given.

    name: what sentences call the file.
    """

    text: str
    path: Path
    suffix: str
    key: str | None
    name: str

    @property
    def is_text(self) -> bool:
        """Whether it is a table of text."""
        return self.suffix in ("csv", "tsv")

    @property
    def is_table(self) -> bool:
        return self.is_text or self.suffix == "parquet"


@dataclass(frozen=True, slots=True)
class Source:
    """An array on disk. read: returns the items [start, stop) of dimension 0; of a scalar, the whole array.

    header: whether the first row of a .csv or .tsv file was taken for its columns' names; None for other files.
    separator: of its cells, likewise. left_out: whether a column was left out although no columns were asked for: one
    without a name, a data frame's index. names: of all columns of a table. columns: those that are read. shards: the
    files that it is made of, in order, where there are several.
    """

    place: ArrayPath
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Read = field(repr=False)
    header: bool | None = None
    separator: str | None = None
    left_out: bool = False
    names: Sequence[str] = ()
    columns: Sequence[str] = ()
    shards: Sequence[Source] = ()

    @property
    def items(self) -> int:
        return self.shape[0] if self.shape else 1

    @property
    def nbytes(self) -> int:
        return self.dtype.itemsize * prod(self.shape)

    @property
    def item_bytes(self) -> int:
        return self.dtype.itemsize * prod(self.shape[1:])

    @property
    def files(self) -> Sequence[Source]:
        """Its shards, or itself."""
        return self.shards or (self,)

    def located(self, item: int) -> tuple[Source, int]:
        """The file that has an item, and the item's place in it."""
        if not self.shards:
            return self, item
        ends = list(accumulate(one.items for one in self.shards))
        at = min(bisect_right(ends, item), len(ends) - 1)
        return self.shards[at], item - ends[at] + self.shards[at].items

    def whole(self) -> npt.NDArray[Any]:
        return self.read(0, self.items)


def array_paths(texts: Sequence[str]) -> list[ArrayPath]:
    """Parses `file` or `file:key`, each of which may be a pattern, whose files are taken in the order of their names.

    Raises CommandError for a pattern that no file matches, and as `array_path`.
    """
    found = []
    for text in texts:
        matched = _SPEC.fullmatch(text)
        pattern = matched["path"] if matched else text
        key = f":{matched['key']}" if matched and matched["key"] is not None else ""
        if not glob.has_magic(pattern) or Path(pattern).exists():
            found.append(array_path(text))
            continue
        files = sorted(glob.glob(pattern, recursive=True))
        if not files:
            raise CommandError(f"{pattern}: no file matches this pattern")
        found += [array_path(file + key) for file in files]
    return found


def array_path(text: str) -> ArrayPath:
    """Parses `file` or `file:key`. Raises CommandError for an unknown suffix and for what is not a file."""
    matched = _SPEC.fullmatch(text)
    if os.path.isdir(text):
        raise CommandError(f"{text}: is a folder; give files, as in '{text.rstrip('/')}/*.csv'")
    if matched is None:
        hint = "; decompress it first" if text.lower().endswith(_COMPRESSED) else ""
        raise CommandError(
            f"{text}: unsupported file type; expected .npy, .npz, .safetensors, .csv, .tsv or .parquet{hint}"
        )
    path = Path(matched["path"])
    try:
        found = path.stat()
    except FileNotFoundError:
        parts = text.split(",")
        hint = "; several files have blanks between them" if len(parts) > 1 and Path(parts[0]).is_file() else ""
        raise CommandError(f"{path}: no such file{hint}") from None
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}") from None
    if not S_ISREG(found.st_mode):
        raise CommandError(
            f"{path}: is a pipe or a device, which can be read only once; give a file, or - for standard input"
        )
    return ArrayPath(text, path, matched["suffix"].lower(), matched["key"] or None, str(path))


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
        raise CommandError(f"{one.name}: does not fit in memory ({error})") from None
    except OSError as error:
        raise CommandError(f"{one.name}: {error.strerror or _first_line(error)}") from None
    except Exception as error:
        raise CommandError(f"{one.name}: cannot be read as .{one.suffix} ({_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def in_memory(one: ArrayPath, stored: npt.NDArray[Any]) -> Source:
    """A source whose array can be sliced."""
    return Source(one, stored.shape, stored.dtype, lambda start, stop: stored[start:stop] if stored.ndim else stored)
