"""File readers: arrays on disk, read by ranges of rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any
from zipfile import is_zipfile

import numpy as np
import numpy.typing as npt

from lossd.command_error import CommandError
from lossd.evaluation.readers.csv_file import open_csv
from lossd.evaluation.readers.parquet_file import open_parquet
from lossd.evaluation.readers.shards import concatenated
from lossd.evaluation.readers.source import ArrayPath, Source, array_paths, in_memory, reading
from lossd.evaluation.readers.standard_input import StandardInput
from lossd.extras import need

# What safetensors calls the dtypes that numpy has.
_SAFETENSORS = {
    "BOOL": "bool", "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64", "U8": "uint8", "U16": "uint16",
    "U32": "uint32", "U64": "uint64", "F16": "float16", "F32": "float32", "F64": "float64",
}  # fmt: skip


def open_all(
    texts: Mapping[str, Sequence[str]],
    header: bool | None = None,
    separator: str | None = None,
    standard: StandardInput | None = None,
) -> dict[str, Source]:
    """The source of every role ("input", "target", "weight", …). texts: of each role, its files or patterns of files.

    A table without a key means all columns that no other role uses. header: whether the first row of every .csv or .tsv
    file is a header; separator: of its cells; None: decided by what stands there.
    """
    places = {role: _places(some, standard) for role, some in texts.items()}
    return {role: _opened(role, some, places, header, separator) for role, some in places.items()}


def _places(texts: Sequence[str], standard: StandardInput | None) -> list[ArrayPath]:
    """standard: where `-` is read; None where it is a name like any other."""
    found = []
    for text in texts:
        here = standard.place(text) if standard is not None else None
        found += [here] if here is not None else array_paths([text])
    return found


def _opened(
    role: str,
    shards: Sequence[ArrayPath],
    places: Mapping[str, Sequence[ArrayPath]],
    header: bool | None,
    separator: str | None,
) -> Source:
    others = [other for name, some in places.items() if name != role for other in some if other.is_table]

    def open_one(one: ArrayPath, first: Source | None) -> Source:
        return _open(role, one, others, first, header, separator)

    return open_one(shards[0], None) if len(shards) == 1 else concatenated(role, shards, open_one)


def _open(
    role: str,
    one: ArrayPath,
    tables: Sequence[ArrayPath],
    first: Source | None,
    header: bool | None,
    separator: str | None,
) -> Source:
    """tables: those of other roles. first: the first of several files, whose header holds for those without one."""
    if one.suffix == "npy":
        return _npy(one)
    if one.suffix == "npz":
        return _npz(one)
    if one.suffix == "safetensors":
        return _safetensors(one)
    with reading(one):
        others = [other for other in tables if other.path.samefile(one.path)]
    if one.suffix == "parquet":
        return open_parquet(one, others, role)
    return open_csv(one, others, role, header, separator, first)


def _npy(one: ArrayPath) -> Source:
    if one.key is not None:
        raise CommandError(f"{one.text}: a .npy file holds a single array without a name; give {one.name} alone")
    with reading(one):
        with one.path.open("rb") as file:
            start = file.read(len(np.lib.format.MAGIC_PREFIX))
        if start != np.lib.format.MAGIC_PREFIX:
            raise ValueError("it does not begin as such files do" if start else "the file is empty")
        stored: npt.NDArray[Any]
        try:
            stored = np.load(one.path, mmap_mode="r", allow_pickle=False)
        except ValueError:
            # An empty array cannot be memory-mapped, and needs no mapping.
            stored = np.load(one.path, allow_pickle=False)
    return in_memory(one, stored)


def _npz(one: ArrayPath) -> Source:
    if not is_zipfile(one.path):
        raise CommandError(f"{one.name}: cannot be read as .npz (it is not a zip archive, or a part of one)")
    with reading(one), np.load(one.path, allow_pickle=False) as stored:
        key = choose_key(one, stored.files, "array")
        array = stored[key]
    if not isinstance(array, np.ndarray):  # the bytes of a file in the archive that numpy has not written
        raise CommandError(f"{one.name}: {key} is not an array")
    return in_memory(one, array)


def _safetensors(one: ArrayPath) -> Source:
    library = need("safetensors", "reading .safetensors")
    with reading(one):
        opened = library.safe_open(one.path, framework="numpy")
        key = choose_key(one, sorted(opened.keys()), "tensor")
        stored = opened.get_slice(key)
        name, shape = stored.get_dtype(), tuple(stored.get_shape())
    if name == "BF16":
        # safetensors asks numpy for bfloat16, which numpy knows only once this module is imported.
        dtype = np.dtype(need("ml_dtypes", f"reading {key}, which is bfloat16,").bfloat16)
    elif name in _SAFETENSORS:
        dtype = np.dtype(_SAFETENSORS[name])
    else:
        raise CommandError(f"{one.name}: {key} is {name}, which numpy cannot hold: store it as F16, BF16 or F32")

    def read(start: int, stop: int) -> npt.NDArray[Any]:
        if not prod(shape):  # safetensors cannot slice what is empty
            return np.empty((stop - start, *shape[1:]), dtype)
        with reading(one):
            rows: npt.NDArray[Any] = stored[start:stop] if shape else opened.get_tensor(key)
        return rows

    return Source(one, shape, dtype, read)


def choose_key(one: ArrayPath, keys: Iterable[str], noun: str) -> str:
    """The key that was asked for, or the only one there is."""
    keys = list(keys)
    if one.key in keys:
        return one.key
    there = ", ".join(keys[:20]) + (", …" if len(keys) > 20 else "") if keys else "nothing"
    if one.key is not None:
        raise CommandError(f"{one.name}: no {noun} {one.key!r}; the file has {there}")
    if len(keys) != 1:
        example = f"{one.name}:{keys[0] if keys else 'name'}"
        raise CommandError(f"{one.name}: name the {noun}, as in {example}; the file has {there}")
    return keys[0]
