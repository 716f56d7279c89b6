"""File readers: arrays on disk, read by ranges of rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any
from zipfile import is_zipfile

import numpy as np
import numpy.typing as npt

from lossd.command_error import CommandError
from lossd.evaluation.csv_file import open_csv
from lossd.evaluation.parquet_file import open_parquet
from lossd.evaluation.source import ArrayPath, Source, array_path, in_memory, reading
from lossd.extras import need

# What safetensors calls the dtypes that numpy has.
_SAFETENSORS = {
    "BOOL": "bool", "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64", "U8": "uint8", "U16": "uint16",
    "U32": "uint32", "U64": "uint64", "F16": "float16", "F32": "float32", "F64": "float64",
}  # fmt: skip


def open_all(texts: Mapping[str, str], header: bool | None = None) -> dict[str, Source]:
    """The source of every role ("input", "target", "weight", …).

    A .csv or .parquet file without a key means all columns that no other role uses. header: whether the first row of
    every .csv file is a header; None: decided by what stands in it.
    """
    places = {role: array_path(text) for role, text in texts.items()}
    return {role: _open(role, one, places, header) for role, one in places.items()}


def _open(role: str, one: ArrayPath, places: Mapping[str, ArrayPath], header: bool | None) -> Source:
    if one.suffix == "npy":
        return _npy(one)
    if one.suffix == "npz":
        return _npz(one)
    if one.suffix == "safetensors":
        return _safetensors(one)
    with reading(one):
        others = [other for name, other in places.items() if name != role and other.path.samefile(one.path)]
    return open_csv(one, others, role, header) if one.suffix == "csv" else open_parquet(one, others, role)


def _npy(one: ArrayPath) -> Source:
    if one.key is not None:
        raise CommandError(f"{one.text}: a .npy file holds a single array without a name; give {one.path} alone")
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
        raise CommandError(f"{one.path}: cannot be read as .npz (it is not a zip archive, or a part of one)")
    with reading(one), np.load(one.path, allow_pickle=False) as stored:
        key = choose_key(one, stored.files, "array")
        array = stored[key]
    if not isinstance(array, np.ndarray):  # the bytes of a file in the archive that numpy has not written
        raise CommandError(f"{one.path}: {key} is not an array")
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
        raise CommandError(f"{one.path}: {key} is {name}, which numpy cannot hold: store it as F16, BF16 or F32")

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
        raise CommandError(f"{one.path}: no {noun} {one.key!r}; the file has {there}")
    if len(keys) != 1:
        example = f"{one.path}:{keys[0] if keys else 'name'}"
        raise CommandError(f"{one.path}: name the {noun}, as in {example}; the file has {there}")
    return keys[0]
