"""Shards: several files of one kind as one array, in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.command_error import CommandError
from lossd.evaluation.readers.source import ArrayPath, Read, Source

# Opens one of the files; the second: what the first of them is, for all but that.
Open = Callable[[ArrayPath, Source | None], Source]
# Files that can be read only at once are held together up to so many bytes on disk; beyond that, one at a time.
HELD_BYTES = 1 << 30
_READ_AT_ONCE = ("csv", "tsv", "npz")


def concatenated(role: str, places: Sequence[ArrayPath], open_one: Open) -> Source:
    """places: two or more. Raises CommandError, with the file, where they do not fit together."""
    large = sum(one.path.stat().st_size for one in places if one.suffix in _READ_AT_ONCE) > HELD_BYTES
    shards: list[Source] = []
    for one in places:
        first = shards[0] if shards else None
        shard = open_one(one, first)
        if first is not None:
            _check_alike(role, first, shard)
        if large and one.suffix in _READ_AT_ONCE:
            shard = replace(shard, read=_read_again(one, first, open_one))
        shards.append(shard)
    dtype = np.result_type(*(one.dtype for one in shards)) if places[0].is_table else shards[0].dtype
    items = sum(one.items for one in shards)
    text = f"{places[0].text} … {places[-1].text} ({len(places)} files)"
    place = replace(places[0], text=text, name=text)
    return replace(
        shards[0],
        place=place,
        shape=(items, *shards[0].shape[1:]),
        dtype=dtype,
        read=lambda start, stop: _joined(shards, dtype, start, stop),
        shards=tuple(shards),
    )


def _joined(shards: Sequence[Source], dtype: np.dtype[Any], start: int, stop: int) -> npt.NDArray[Any]:
    parts: list[npt.NDArray[Any]] = []
    for shard in shards:
        if (start < shard.items and stop > 0) or not parts:
            parts.append(shard.read(max(0, start), max(0, min(stop, shard.items))))
        start, stop = start - shard.items, stop - shard.items
    full = [part for part in parts if len(part)] or parts[:1]
    joined = full[0] if len(full) == 1 else np.concatenate(full)
    return joined if joined.dtype == dtype else joined.astype(dtype)


def _read_again(one: ArrayPath, first: Source | None, open_one: Open) -> Read:
    """Opens the file for the first rows that are asked of it, and lets go of it after its last."""
    held: list[Source] = []

    def read(start: int, stop: int) -> npt.NDArray[Any]:
        if not held:
            held.append(open_one(one, first))
        rows = held[0].read(start, stop)
        if stop >= held[0].items:
            held.clear()
        return rows

    return read


def _check_alike(role: str, first: Source, other: Source) -> None:
    for sentence in _differences(first, other):
        raise CommandError(f"{other.place.name} {sentence}: all files of --{role.replace('_', '-')} need the same")


def _differences(first: Source, other: Source) -> Iterator[str]:
    known = first.place.name
    if not first.shape or not other.shape:
        yield "holds a single number, which has no rows" if not other.shape else f"has rows, but {known} has none"
    if first.columns and other.columns and list(first.columns) != list(other.columns):
        yield f"has the columns {_listed(other.columns)}, but {known} has {_listed(first.columns)}"
    if first.shape[1:] != other.shape[1:]:
        yield f"has rows of shape {list(other.shape[1:])}, but {known} has {list(first.shape[1:])}"
    if first.dtype != other.dtype and not (first.place.is_table and other.place.is_table):
        yield f"has dtype {other.dtype.name}, but {known} has {first.dtype.name}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f", … ({len(names)} in all)" if len(names) > 8 else "")
