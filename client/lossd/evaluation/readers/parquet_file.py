"""Parquet files: columns read by row groups, of which one is held at a time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.command_error import CommandError
from lossd.evaluation.readers.columns import check_names, leaves_index_out, select_columns, to_array
from lossd.evaluation.readers.source import ArrayPath, Source, reading
from lossd.extras import need


def open_parquet(one: ArrayPath, others: Sequence[ArrayPath], role: str) -> Source:
    """others: the same file, as other roles name it."""
    reader = need("pyarrow.parquet", "reading .parquet")
    with reading(one):
        stored = reader.ParquetFile(one.path, page_checksum_verification=True)
        names = list(stored.schema_arrow.names)
        sizes = [stored.metadata.row_group(i).num_rows for i in range(stored.metadata.num_row_groups)]
    check_names(one, names)
    positions = select_columns(one, others, names)
    chosen = [names[i] for i in positions]
    ends = list(accumulate(sizes))
    held: dict[int, npt.NDArray[Any]] = {}

    def columns(table: Any) -> list[tuple[str, Any]]:
        return [(name, table.column(name)) for name in chosen]

    def group(i: int) -> npt.NDArray[Any]:
        if i not in held:
            held.clear()
            with reading(one):
                table = stored.read_row_group(i, columns=chosen)
            held[i] = to_array(one, role, columns(table), ends[i] - sizes[i])
        return held[i]

    def read(start: int, stop: int) -> npt.NDArray[Any]:
        parts, position = [], start
        while position < stop:
            i = bisect_right(ends, position)
            begin = ends[i] - sizes[i]
            parts.append(group(i)[position - begin : stop - begin])
            if parts[-1].shape[1:] != like.shape[1:]:
                raise CommandError(
                    f"{one.name}: the lists of column {chosen[0]} have {like.shape[1]} entries in row 0 and "
                    f"{parts[-1].shape[1]} in row {position}; all need the same length"
                )
            position = min(stop, ends[i])
        return parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else like[:0]

    if ends and ends[-1]:
        like = group(bisect_right(ends, 0))
    else:
        with reading(one):
            table = stored.schema_arrow.empty_table()
        like = to_array(one, role, columns(table), 0)
    shape = (sum(sizes), *like.shape[1:])
    left_out = leaves_index_out(one, positions, names)
    return Source(one, shape, like.dtype, read, left_out=left_out, names=names, columns=chosen)
