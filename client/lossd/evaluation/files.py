"""File readers: arrays on disk, read by ranges of rows. .csv and .parquet are in `columns`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.command_error import CommandError
from lossd.evaluation import columns
from lossd.evaluation.source import ArrayPath, Source, array_path, in_memory
from lossd.extras import need


def open_all(texts: Mapping[str, str]) -> dict[str, Source]:
    """The source of every role ("input", "target", "weight", …).

    A .csv or .parquet file without a key means all columns that no other role uses.
    """
    places = {role: array_path(text) for role, text in texts.items()}
    return {role: _open(role, one, places) for role, one in places.items()}


def _open(role: str, one: ArrayPath, places: Mapping[str, ArrayPath]) -> Source:
    try:
        if one.suffix == "npy":
            return _npy(one)
        if one.suffix == "npz":
            return _npz(one)
        if one.suffix == "safetensors":
            return _safetensors(one)
        others = [other for name, other in places.items() if name != role and other.path.samefile(one.path)]
        return columns.open_columns(one, others, numbers=role == "input")
    except OSError as error:
        raise CommandError(f"{one.path}: {error.strerror or error}") from None


def _npy(one: ArrayPath) -> Source:
    if one.key is not None:
        raise CommandError(f"{one.text}: a .npy file holds a single array without a name; give {one.path} alone")
    try:
        stored = np.load(one.path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        # An empty array cannot be memory-mapped, and needs no mapping.
        stored = _unmapped(one, error)
    return in_memory(one, stored)


def _unmapped(one: ArrayPath, reason: Exception) -> npt.NDArray[Any]:
    try:
        stored: npt.NDArray[Any] = np.load(one.path, allow_pickle=False)
    except (ValueError, EOFError):
        raise CommandError(f"{one.path}: cannot be read as a .npy array of numbers ({reason})") from None
    return stored


def _npz(one: ArrayPath) -> Source:
    from zipfile import BadZipFile

    try:
        with np.load(one.path, allow_pickle=False) as stored:
            return in_memory(one, stored[choose_key(one, stored.files, "array")])
    except (ValueError, EOFError, BadZipFile) as error:
        raise CommandError(f"{one.path}: cannot be read as .npz ({error})") from None


def _safetensors(one: ArrayPath) -> Source:
    library = need("safetensors", "reading .safetensors")
    try:
        opened = library.safe_open(one.path, framework="numpy")
        key = choose_key(one, sorted(opened.keys()), "tensor")
    except library.SafetensorError as error:
        raise CommandError(f"{one.path}: cannot be read as .safetensors ({error})") from None
    stored = opened.get_slice(key)
    shape = tuple(stored.get_shape())
    if stored.get_dtype() == "BF16":
        # safetensors asks numpy for bfloat16, which numpy knows only once this module is imported.
        need("ml_dtypes", f"reading {key}, which is bfloat16,")

    def read(start: int, stop: int) -> npt.NDArray[Any]:
        rows: npt.NDArray[Any] = stored[start:stop] if shape else opened.get_tensor(key)
        return rows

    try:
        dtype = read(0, min(1, shape[0]) if shape else 1).dtype
    except (AttributeError, TypeError, library.SafetensorError):
        # 8-bit floats: numpy has none, and safetensors does not know the names that ml_dtypes gives them.
        name = stored.get_dtype()
        sentence = f"{one.path}: {key} is {name}, which numpy cannot hold: store it as F16, BF16 or F32"
        raise CommandError(sentence) from None
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
