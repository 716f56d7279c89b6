"""Columns of a table as an array: one column is (N), several are (N, columns), a list column (N, length).

Which columns a file's role takes, and arrow's columns as numbers. `csv_file` and `parquet_file` read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from lossd.command_error import CommandError
from lossd.errors import shown_value
from lossd.evaluation.readers.source import ArrayPath
from lossd.extras import need

# Names that pandas gives to an index that has none, in a .csv and in a .parquet file.
INDEX_NAMES = ("", "__index_level_0__")
_MOST_SHOWN = 20
# Rows that are looked through for the first that is at fault.
_MOST_READ = 1_000_000


def check_names(one: ArrayPath, names: Sequence[str]) -> None:
    """Raises CommandError where two columns have one name: it is unknown which of them is meant."""
    first: dict[str, int] = {}
    for i, name in enumerate(names):
        if name in first:
            called = f"are called {name!r}" if name else "have no name"
            raise CommandError(
                f"{one.name}: columns {first[name]} and {i} {called} (counted from 0); each needs its own name"
            )
        first[name] = i


def select_columns(one: ArrayPath, others: Sequence[ArrayPath], names: Sequence[str]) -> list[int]:
    """Positions of the columns that `one` names, or of all that no other role uses.

    others: the same file, as other roles name it.
    """
    if one.key is not None:
        return [_position(one, name.strip(), names) for name in one.key.split(",")]
    if any(other.key is None for other in others):
        raise CommandError(f"{one.name}: the file is given twice without columns; name them, as in {one.name}:label")
    taken = {_position(other, name.strip(), names) for other in others if other.key for name in other.key.split(",")}
    rest = [i for i, name in enumerate(names) if i not in taken and name not in INDEX_NAMES]
    if not rest:
        raise CommandError(f"{one.name}: no column is left; the file has {_shown(names)}")
    return rest


def leaves_index_out(one: ArrayPath, chosen: Sequence[int], names: Sequence[str]) -> bool:
    """Whether a column was left out for its name alone."""
    return one.key is None and any(name in INDEX_NAMES and i not in chosen for i, name in enumerate(names))


def _position(one: ArrayPath, name: str, names: Sequence[str]) -> int:
    """The position of a column, given by name or by number (negative numbers count from the end)."""
    if name in names:
        return list(names).index(name)
    if name.removeprefix("-").isdecimal() and -len(names) <= int(name) < len(names):
        return int(name) % len(names)
    hint = ""
    if one.is_text and list(names) == [str(i) for i in range(len(names))]:
        hint = ", since its first row was read as data; give --header if it holds the names"
    raise CommandError(f"{one.name}: no column {name!r}; the file has {_shown(names)}{hint}")


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_SHOWN]) + (", …" if len(names) > _MOST_SHOWN else "")


def to_array(one: ArrayPath, role: str, columns: Sequence[tuple[str, Any]], first_row: int) -> npt.NDArray[Any]:
    """columns: names and arrow's chunked arrays. first_row: the first one's row in the file, for what is said of it."""
    for name, column in columns:
        if not _holds_numbers(column.type):
            numeric = [other for other, beside in columns if _holds_numbers(beside.type)]
            _refuse_type(one, role, name, column.type, numeric, _first_text(column, first_row))
    arrays = [_column(one, name, column, first_row) for name, column in columns]
    if len(arrays) == 1:
        return arrays[0]
    for (name, _), array in zip(columns, arrays, strict=True):
        if array.ndim > 1:
            raise CommandError(f"{one.name}: column {name} holds lists and must be used alone, as in {one.name}:{name}")
    stacked = np.stack(arrays, axis=1)
    if stacked.dtype.kind == "f" and all(array.dtype.kind in "iub" for array in arrays):
        raise CommandError(
            f"{one.name}: its columns have dtypes {', '.join(sorted({array.dtype.name for array in arrays}))}, and no "
            "integer dtype holds both: store all as int64"
        )
    return stacked


def _holds_numbers(kind: Any) -> bool:
    types = need("pyarrow.types", "reading columns")
    if types.is_dictionary(kind) or _is_list(kind):
        return _holds_numbers(kind.value_type)
    # A column of nulls alone has no other type; that its numbers are missing is said of its first row.
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_null(kind))


def _is_list(kind: Any) -> bool:
    types = need("pyarrow.types", "reading columns")
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _first_text(column: Any, first_row: int) -> str:
    """Which row has the first text that is no number, as " (row 3: 'x')"; "" for what is not text."""
    types = need("pyarrow.types", "reading columns")
    if types.is_string(column.type) or types.is_large_string(column.type):
        for row, cell in enumerate(column.slice(0, _MOST_READ).to_pylist()):
            try:
                float(cell or 0)
            except ValueError:
                return f" (row {first_row + row}: {shown_value(cell)})"
    return ""


def _refuse_type(one: ArrayPath, role: str, name: str, kind: Any, numeric: Sequence[str], where: str) -> NoReturn:
    types = need("pyarrow.types", "reading columns")
    sentence = f"{one.name}: column {name} holds values of type {kind}, not numbers{where}"
    if one.key is None and numeric:
        sentence += (
            f"; --{role.replace('_', '-')} {one.text} takes every column that no other option uses: name those with "
            f"numbers, as in {one.name}:{','.join(numeric[:_MOST_SHOWN])}"
        )
    elif role == "target" and (types.is_string(kind) or types.is_large_string(kind) or types.is_dictionary(kind)):
        sentence += "; class indices are integers from 0 to C−1"
    else:
        sentence += "; convert it to integers or floats"
    raise CommandError(sentence)


def _column(one: ArrayPath, name: str, column: Any, first_row: int) -> npt.NDArray[Any]:
    arrays = []
    # Each by itself: together the lists of a column may have more entries than arrow's offsets can count.
    for chunk in column.chunks or [need("pyarrow", "reading columns").array([], column.type)]:
        arrays.append(_chunk(one, name, chunk, first_row))
        first_row += len(chunk)
    shapes = {array.shape[1:] for array in arrays if len(array)}
    if len(shapes) > 1:
        _refuse_lengths(one, name, [shape[0] for shape in shapes])
    full = [array for array in arrays if len(array)] or arrays[:1]
    return full[0] if len(full) == 1 else np.concatenate(full)


def _chunk(one: ArrayPath, name: str, chunk: Any, first_row: int, entries: int = 1) -> npt.NDArray[Any]:
    """entries: how many of the chunk's values lie in one row of the file."""
    types = need("pyarrow.types", "reading columns")
    if types.is_dictionary(chunk.type):
        chunk = chunk.dictionary_decode()
    if chunk.null_count:
        row = first_row + int(np.argmax(np.asarray(chunk.is_null()))) // entries
        what = "has no number" if entries == 1 else "has a list without a number"
        raise CommandError(f"{one.name}: column {name} {what} in row {row} (empty, null or NaN)")
    if not _is_list(chunk.type):
        numbers: npt.NDArray[Any] = np.asarray(chunk)
        return numbers
    lengths = np.unique(np.asarray(need("pyarrow.compute", "reading columns").list_value_length(chunk)))
    if len(lengths) > 1:
        _refuse_lengths(one, name, lengths.tolist())
    empty = chunk.type.list_size if types.is_fixed_size_list(chunk.type) else 0
    length = int(lengths[0]) if len(lengths) else empty
    values = _chunk(one, name, chunk.flatten(), first_row, entries * max(1, length))
    return values.reshape(len(chunk), length, *values.shape[1:])


def _refuse_lengths(one: ArrayPath, name: str, lengths: Sequence[int]) -> NoReturn:
    different = f"{min(lengths)} to {max(lengths)} entries"
    raise CommandError(f"{one.name}: the lists of column {name} have {different}; all need the same length")
