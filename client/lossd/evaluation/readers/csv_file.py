"""CSV and TSV files: separator, header, and columns of numbers. A file is read whole."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.command_error import CommandError
from lossd.evaluation.readers.columns import check_names, leaves_index_out, select_columns, to_array
from lossd.evaluation.readers.source import ArrayPath, Source, in_memory, reading
from lossd.extras import need

# What stands in a row of data where there is no number, or a truth value: neither a column's name nor a number.
_WORDS = frozenset({"na", "n/a", "#n/a", "#na", "nan", "-nan", "null", "none", "true", "false"})
# A row must fit a block of what is parsed at once: more than a cell of numbers needs.
_CELL_BYTES = 64
# Bytes at a file's beginning by which it is seen that it is no text.
_LOOKED_AT = 4096
_LINE_END = re.compile(rb"\r\n|\n|\r")
# What arrow says of a row that is too short or too long.
_WRONG_WIDTH = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+)")
# Taken where they separate a first row without commas, and asked about.
_TAKEN = (";", "\t")
_ASKED = {"|": "vertical bars", " ": "spaces", ",": "commas"}
SEPARATORS = {"tab": "\t", "\\t": "\t", "space": " "}
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")


def open_csv(
    one: ArrayPath,
    others: Sequence[ArrayPath],
    role: str,
    header: bool | None = None,
    separator: str | None = None,
    first: Source | None = None,
) -> Source:
    """header: whether the first row holds the columns' names; separator: one character; None: decided by the first row.

    others: the same file, as other roles name it. first: the first of several files: where it has a header and this one
    begins with numbers, its names hold for this one too. Integers of an input are read as floats.
    """
    reader = need("pyarrow.csv", "reading .csv")
    separator = separator or _separator(one, header)
    cells = _first_row(one, separator)
    _check_text(one, cells)
    taken = is_header(one, cells) if header is None else header
    inherited = header is None and not taken and first is not None and first.header and len(first.names) == len(cells)
    names = list(first.names) if inherited and first else cells if taken else [str(i) for i in range(len(cells))]
    if taken:
        _check_header(one, names)
    chosen = select_columns(one, others, names)

    def read(kind: Any = None) -> npt.NDArray[Any]:
        table = _read(one, reader, len(cells), chosen, taken, separator, kind)
        columns = [(names[i], table.column(str(i))) for i in chosen]
        if separator == ";":
            _check_decimal_points(one, columns)
        return to_array(one, role, columns, 0)

    array = read()
    if role == "target" and array.dtype.kind == "f" and (array >= 2.0**63).any():
        # Integers beyond int64 come as floats. As what they are, the client names one that cannot be sent.
        with suppress(CommandError):
            array = read(need("pyarrow", "reading .csv").uint64())
    if role == "input" and array.dtype.kind in "iub":
        array = array.astype(np.float64)
    return replace(
        in_memory(one, array),
        header=taken,
        separator=separator,
        left_out=leaves_index_out(one, chosen, names),
        names=names,
        columns=[names[i] for i in chosen],
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
        f"{one.name}: is the first row a header? Cell {at} of it (counted from 0) {shown}, {why}: give --header if the "
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
        raise CommandError(f"{one.name}: the file is empty")
    if not cells:
        raise CommandError(f"{one.name}: the first line is blank; a blank line is no row")
    with reading(one), one.path.open("rb") as file:
        is_text = b"\0" not in file.read(_LOOKED_AT)
    if not is_text:
        raise CommandError(f"{one.name}: is not a text file in UTF-8; store it as a .csv file in UTF-8")


def _first_row(one: ArrayPath, separator: str) -> list[str]:
    with reading(one), one.path.open(newline="", encoding="utf-8-sig", errors="replace") as lines:
        return [cell.strip() for cell in next(csv.reader(lines, delimiter=separator), [])]


def _separator(one: ArrayPath, header: bool | None) -> str:
    """By the first row. Raises CommandError where it may be one of those that are asked about."""
    usual, *others = ("\t",) if one.suffix == "tsv" else (",", *_TAKEN)
    if ";" in "".join(_first_row(one, usual)):
        cells = _first_row(one, ";")
        if len(cells) > 1 and all(_DECIMAL_COMMA.fullmatch(cell) for cell in cells):
            raise CommandError(f"{one.name}: has decimal commas (row 0: {cells[0]!r}); write decimal points")
    for separator in (usual, *others):
        if len(_first_row(one, separator)) > 1:
            return separator
    text = "".join(_first_row(one, usual))
    for separator, name in _ASKED.items():
        parts = text.split(separator)
        if (separator == "," and one.suffix != "tsv") or header is not None or len(parts) == 1:
            continue
        if separator != " " or all(_kind(part) != "text" for part in parts):
            raise CommandError(
                f"{one.name}: its columns look as if separated by {name}: give --separator '{separator}' (if it is one "
                "column, give --header or --no-header)"
            )
    return usual


def _check_decimal_points(one: ArrayPath, columns: Sequence[tuple[str, Any]]) -> None:
    """Raises CommandError for 0,5 where 0.5 is meant, as tables with semicolons often have it."""
    for name, column in columns:
        cell = column[0].as_py() if len(column) else None
        if isinstance(cell, str) and _DECIMAL_COMMA.fullmatch(cell.strip()):
            raise CommandError(f"{one.name}: column {name} has decimal commas (row 0: {cell!r}); write decimal points")


def _check_header(one: ArrayPath, names: Sequence[str]) -> None:
    check_names(one, names)
    nameless = [i for i, name in enumerate(names) if not name and i]
    if nameless:
        raise CommandError(
            f"{one.name}: column {nameless[0]} (counted from 0) has no name in the header; give it one, or remove the "
            "separator too many"
        )
    if any("\n" in name or "\r" in name for name in names):
        raise CommandError(f"{one.name}: a column's name has a line break in it; names need one line")


def _read(
    one: ArrayPath, reader: Any, width: int, chosen: Sequence[int], header: bool, separator: str, kind: Any
) -> Any:
    """The chosen columns as a table, under their numbers. kind: arrow's type of all, None for what each looks like."""
    arrow = need("pyarrow", "reading .csv")
    with reading(one), arrow.memory_map(str(one.path)) as file:
        buffer = file.read_buffer()
        first = _LINE_END.search(buffer) if header else None
        start, end, text = first.end() if first else header * buffer.size, buffer.size, memoryview(buffer).cast("B")
        # Blank lines at the end are no rows. Anywhere else one would be a row that is lost, and is an error.
        while end > start and text[end - 1] in b"\r\n":
            end -= 1
        if start >= end:
            raise CommandError(f"{one.name}: has a header and no rows")
        rows = buffer.slice(start, end - start)

        def parse(threads: bool) -> Any:
            names = [str(i) for i in range(width)]
            return reader.read_csv(
                arrow.BufferReader(rows),
                reader.ReadOptions(
                    column_names=names, use_threads=threads, block_size=max(1 << 20, _CELL_BYTES * width)
                ),
                reader.ParseOptions(delimiter=separator, newlines_in_values=True, ignore_empty_lines=False),
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
                f"{one.name}: row {int(wrong[1]) - 1} has {wrong[3]} cells, but there are {wrong[2]} columns (rows are "
                "counted from 0, without the header)"
            ) from None
