"""Columns of .csv and .parquet files as arrays: one column is (N), several are (N, columns), a list column (N, length).

A .csv is read whole; a .parquet by row groups, of which one is held at a time.
"""

from __future__ import annotations

import csv
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.command_error import CommandError
from lossd.evaluation.source import ArrayPath, Source, in_memory
from lossd.extras import need


def open_columns(one: ArrayPath, others: Sequence[ArrayPath], *, numbers: bool) -> Source:
    """others: columns of the same file that other roles use. numbers: read integers as floats, not as classes."""
    return _csv(one, others, numbers) if one.suffix == "csv" else _parquet(one, others)


def _csv(one: ArrayPath, others: Sequence[ArrayPath], numbers: bool) -> Source:
    reader = need("pyarrow.csv", "reading .csv")
    names, header = _csv_names(one)
    options = reader.ReadOptions(column_names=names, skip_rows=int(header))
    try:
        table = reader.read_csv(one.path, read_options=options)
    except need("pyarrow", "reading .csv").ArrowInvalid as error:
        raise CommandError(f"{one.path}: {str(error).splitlines()[0]}") from None
    chosen = _select(one, others, names)
    array = _array(one, [(names[i], table.column(i)) for i in chosen], 0)
    if numbers and array.dtype.kind in "iub":
        array = array.astype(np.float64)
    return in_memory(one, array)


def _csv_names(one: ArrayPath) -> tuple[list[str], bool]:
    """The columns' names, and whether the first line holds them. Without such a line they are called 0, 1, ….

    The first line is a header if a cell is not a number, or if the cells count 0, 1, 2, … as in a data frame without
    names.
    """
    with one.path.open(newline="", encoding="utf-8-sig", errors="replace") as lines:
        first = next(csv.reader(lines), [])
    if not first:
        raise CommandError(f"{one.path}: the file is empty")
    cells = [cell.strip() for cell in first]
    numbered = [str(i) for i in range(len(cells))]
    header = not all(map(_is_number, cells)) or (len(cells) > 1 and cells == numbered)
    return (cells if header else numbered), header


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _parquet(one: ArrayPath, others: Sequence[ArrayPath]) -> Source:
    reader, arrow = need("pyarrow.parquet", "reading .parquet"), need("pyarrow", "reading .parquet")
    try:
        stored = reader.ParquetFile(one.path)
    except arrow.ArrowInvalid as error:
        raise CommandError(f"{one.path}: cannot be read as .parquet ({error})") from None
    names = list(stored.schema_arrow.names)
    chosen = [names[i] for i in _select(one, others, names)]
    sizes = [stored.metadata.row_group(i).num_rows for i in range(stored.metadata.num_row_groups)]
    ends = list(accumulate(sizes))
    held: dict[int, npt.NDArray[Any]] = {}

    def group(i: int) -> npt.NDArray[Any]:
        if i not in held:
            held.clear()
            table = stored.read_row_group(i, columns=chosen)
            held[i] = _array(one, [(name, table.column(name)) for name in chosen], ends[i] - sizes[i])
        return held[i]

    def read(start: int, stop: int) -> npt.NDArray[Any]:
        parts, position = [], start
        while position < stop:
            i = bisect_right(ends, position)
            begin = ends[i] - sizes[i]
            parts.append(group(i)[position - begin : stop - begin])
            position = min(stop, ends[i])
        return parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else like[:0]

    if ends and ends[-1]:
        like = group(bisect_right(ends, 0))
    else:
        like = _array(one, [(name, stored.read(columns=[name]).column(name)) for name in chosen], 0)
    return Source(one, (stored.metadata.num_rows, *like.shape[1:]), like.dtype, read)


def _select(one: ArrayPath, others: Sequence[ArrayPath], names: list[str]) -> list[int]:
    """Positions of the columns that `one` names, or of all that no other role uses."""
    if one.key is not None:
        return [_position(one, name.strip(), names) for name in one.key.split(",")]
    if any(other.key is None for other in others):
        raise CommandError(f"{one.path}: the file is given twice without columns; name them, as in {one.path}:label")
    taken = {_position(other, name.strip(), names) for other in others if other.key for name in other.key.split(",")}
    # A column without a name is a data frame's index.
    rest = [i for i, name in enumerate(names) if i not in taken and name not in ("", "__index_level_0__")]
    if not rest:
        raise CommandError(f"{one.path}: no column is left; the file has {', '.join(names)}")
    return rest


def _position(one: ArrayPath, name: str, names: list[str]) -> int:
    """The position of a column, given by name or by number (negative numbers count from the end)."""
    if name in names:
        return names.index(name)
    if name.lstrip("-").isdecimal() and -len(names) <= int(name) < len(names):
        return int(name) % len(names)
    there = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    raise CommandError(f"{one.path}: no column {name!r}; the file has {there}")


def _array(one: ArrayPath, columns: Sequence[tuple[str, Any]], first_row: int) -> npt.NDArray[Any]:
    arrays = [_column(one, name, column, first_row) for name, column in columns]
    if len(arrays) == 1:
        return arrays[0]
    for (name, _), array in zip(columns, arrays, strict=True):
        if array.ndim > 1:
            raise CommandError(f"{one.path}: column {name} holds lists and must be used alone, as in {one.path}:{name}")
    return np.stack(arrays, axis=1)


def _column(one: ArrayPath, name: str, column: Any, first_row: int) -> npt.NDArray[Any]:
    types = need("pyarrow.types", "reading columns")
    if column.null_count:
        row = first_row + int(np.argmax(column.is_null().to_numpy()))
        raise CommandError(f"{one.path}: column {name} has no number in row {row} (empty or NaN)")
    kind = column.type
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        whole = column.combine_chunks()
        values = _column(one, name, whole.flatten(), first_row)
        width = len(values) // max(1, len(whole))
        lengths = np.unique(np.asarray(need("pyarrow.compute", "reading columns").list_value_length(whole)))
        if len(lengths) > 1:
            different = f"{lengths[0]} to {lengths[-1]} entries"
            raise CommandError(f"{one.path}: the lists of column {name} have {different}; all need the same length")
        return values.reshape(len(whole), width)
    if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
        hint = (
            "; class indices are integers from 0 to C−1" if types.is_string(kind) or types.is_dictionary(kind) else ""
        )
        raise CommandError(f"{one.path}: column {name} holds values of type {kind}, not numbers{hint}")
    numbers: npt.NDArray[Any] = np.asarray(column)
    return numbers
