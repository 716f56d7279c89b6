"""CSV files: whether the first row is a header, and columns of numbers. A file is read whole."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.command_error import CommandError
from lossd.evaluation.columns import check_names, leaves_index_out, select_columns, to_array
from lossd.evaluation.source import ArrayPath, Source, in_memory, reading
from lossd.extras import need

# What stands in a row of data where there is no number, or a truth value: neither a column's name nor a number.
_WORDS = frozenset({"na", "n/a", "#n/a", "#na", "nan", "-nan", "null", "none", "true", "false"})
# A row must fit a block of what is parsed at once: more than a cell of numbers needs.
_CELL_BYTES = 64
_LINE_END = re.compile(rb"\r\n|\n|\r")
# What arrow says of a row that is too short or too long.
_WRONG_WIDTH = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+)")
_SEPARATORS = {"\t": "tabs", ";": "semicolons", "|": "vertical bars", " ": "spaces"}


def open_csv(one: ArrayPath, others: Sequence[ArrayPath], role: str, header: bool | None) -> Source:
    """header: whether the first row holds the columns' names; None: decided by what stands in it.

    others: the same file, as other roles name it. Integers of an input are read as floats.
    """
    reader = need("pyarrow.csv", "reading .csv")
    with reading(one), one.path.open(newline="", encoding="utf-8-sig", errors="replace") as lines:
        cells = [cell.strip() for cell in next(csv.reader(lines), [])]
    _check_text(one, cells)
    if header is None:
        _check_separator(one, cells)
    taken = is_header(one, cells) if header is None else header
    names = cells if taken else [str(i) for i in range(len(cells))]
    if taken:
        _check_header(one, names)
    chosen = select_columns(one, others, names)

    def read(kind: Any = None) -> npt.NDArray[Any]:
        table = _read(one, reader, len(cells), chosen, taken, kind)
        return to_array(one, role, [(names[i], table.column(str(i))) for i in chosen], 0)

    array = read()
    if role == "target" and array.dtype.kind == "f" and (array >= 2.0**63).any():
        # Integers beyond int64 come as floats. As what they are, the client names one that cannot be sent.
        with suppress(CommandError):
            array = read(need("pyarrow", "reading .csv").uint64())
    if role == "input" and array.dtype.kind in "iub":
        array = array.astype(np.float64)
    source = in_memory(one, array)
    return Source(
        one, source.shape, source.dtype, source.read, header=taken, left_out=leaves_index_out(one, chosen, names)
    )


def is_header(one: ArrayPath, cells: Sequence[str]) -> bool:
    """A row of text is a header, a row of numbers is data; CommandError, with the cell, where it is neither.

    The first cell of a header may be empty: the name of a data frame's index.
    """
    kinds = [_kind(cell) for cell in cells]
    if all(kind == "a number" for kind in kinds):
        return False
    names = kinds[1:] if len(kinds) > 1 and kinds[0] == "empty" else kinds
    if all(kind == "text" for kind in names):
        return True
    # The cell that stands out: in a row with a number the first that is none, else the first that is no name.
    usual = "a number" if "a number" in kinds else "text"
    at = next(i for i, kind in enumerate(kinds) if kind != usual)
    shown = "is empty" if kinds[at] == "empty" else f"is {cells[at]!r}"
    why = "but others are numbers" if usual == "a number" else "which is neither a name nor a number"
    raise CommandError(
        f"{one.path}: is the first row a header? Cell {at} of it (counted from 0) {shown}, {why}: give --header if the "
        "row holds the columns' names, --no-header if it is data"
    )


def _kind(cell: str) -> str:
    if not cell:
        return "empty"
    if cell.lower() in _WORDS:
        return "a word"
    try:
        float(cell)
    except ValueError:
        return "text"
    # Python reads 1_000 as a number, and no table does.
    return "text" if "_" in cell else "a number"


def _check_text(one: ArrayPath, cells: Sequence[str]) -> None:
    if not one.path.stat().st_size:
        raise CommandError(f"{one.path}: the file is empty")
    if not cells:
        raise CommandError(f"{one.path}: the first line is blank; a blank line is no row")
    if any("\0" in cell for cell in cells):
        raise CommandError(f"{one.path}: is not a text file in UTF-8; store it as a .csv file in UTF-8")


def _check_separator(one: ArrayPath, cells: Sequence[str]) -> None:
    """Raises CommandError for a first row that is one cell to commas, and several to something else."""
    for separator, name in _SEPARATORS.items():
        parts = cells[0].split(separator)
        if len(cells) == 1 < len(parts) and (separator != " " or all(_kind(part) != "text" for part in parts)):
            raise CommandError(
                f"{one.path}: its columns are separated by {name}; a .csv file needs commas (if it "
                "is one column, give --header or --no-header)"
            )


def _check_header(one: ArrayPath, names: Sequence[str]) -> None:
    check_names(one, names)
    nameless = [i for i, name in enumerate(names) if not name and i]
    if nameless:
        raise CommandError(
            f"{one.path}: column {nameless[0]} (counted from 0) has no name in the header; give it one, or remove the "
            "comma too many"
        )
    if any("\n" in name or "\r" in name for name in names):
        raise CommandError(f"{one.path}: a column's name has a line break in it; names need one line")


def _read(one: ArrayPath, reader: Any, width: int, chosen: Sequence[int], header: bool, kind: Any) -> Any:
    """The chosen columns as a table, under their numbers. kind: arrow's type of all, None for what each looks like."""
    arrow = need("pyarrow", "reading .csv")
    with reading(one), arrow.memory_map(str(one.path)) as file:
        buffer = file.read_buffer()
        first = _LINE_END.search(buffer) if header else None
        start, end, text = first.end() if first else header * buffer.size, buffer.size, memoryview(buffer)
        # Blank lines at the end are no rows. Anywhere else one would be a row that is lost, and is an error.
        while end > start and text[end - 1] in b"\r\n":
            end -= 1
        if start >= end:
            raise CommandError(f"{one.path}: has a header and no rows")
        rows = buffer.slice(start, end - start)

        def parse(threads: bool) -> Any:
            names = [str(i) for i in range(width)]
            return reader.read_csv(
                arrow.BufferReader(rows),
                reader.ReadOptions(
                    column_names=names, use_threads=threads, block_size=max(1 << 20, _CELL_BYTES * width)
                ),
                reader.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
                reader.ConvertOptions(
                    include_columns=[names[i] for i in chosen],
                    column_types={} if kind is None else {names[i]: kind for i in chosen},
                ),
            )

        try:
            return parse(threads=True)
        except arrow.ArrowInvalid:
            pass
        try:
            return parse(threads=False)  # one thread counts the rows, so the sentence has the row
        except arrow.ArrowInvalid as error:
            wrong = _WRONG_WIDTH.search(str(error))
            if wrong is None:
                raise
            raise CommandError(
                f"{one.path}: row {int(wrong[1]) - 1} has {wrong[3]} cells, but there are {wrong[2]} columns (rows are "
                "counted from 0, without the header)"
            ) from None
