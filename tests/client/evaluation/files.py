"""Files of every format that hold the same rows, and a server that takes only small messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no annotations
import pyarrow.csv  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]
from safetensors.numpy import save_file

ROWS, CLASSES = 1000, 7
# Of which a block is cut: the rows above come in several.
MAX_MESSAGE_BYTES = 20_000


def logits(seed: int = 3) -> npt.NDArray[np.float32]:
    """(ROWS, CLASSES), exact in the decimals that a .csv holds."""
    return (np.random.default_rng(seed).integers(-80, 80, (ROWS, CLASSES)) / 16).astype(np.float32)


def labels(seed: int = 4) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, CLASSES, ROWS)


def write(folder: Path, **arrays: npt.NDArray[Any]) -> None:
    """NAME.npy, all.npz and all.safetensors of `arrays`."""
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    np.savez(folder / "all.npz", allow_pickle=False, **arrays)
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / "all.safetensors")


def write_tables(folder: Path, input: npt.NDArray[Any], label: npt.NDArray[Any]) -> None:
    """data.csv, bare.csv (no header), data.parquet (columns a, b, …) and lists.parquet, each with the labels too."""
    columns = {chr(ord("a") + i): input[:, i] for i in range(input.shape[1])}
    table = pa.table({**columns, "label": label})
    pyarrow.csv.write_csv(table, folder / "data.csv")
    pyarrow.csv.write_csv(table, folder / "bare.csv", pyarrow.csv.WriteOptions(include_header=False))
    # Row groups that no block ends at.
    pyarrow.parquet.write_table(table, folder / "data.parquet", row_group_size=37)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(input.ravel()), input.shape[1])
    pyarrow.parquet.write_table(pa.table({"x": lists, "label": label}), folder / "lists.parquet", row_group_size=300)


def write_everywhere(folder: Path, name: str, array: npt.NDArray[Any]) -> list[str]:
    """`array`, of one dimension, in a file of every format; how each is named on a command line."""
    write(folder, **{name: array})
    table = pa.table({name: array})
    pyarrow.csv.write_csv(table, folder / f"{name}.csv")
    pyarrow.parquet.write_table(table, folder / f"{name}.parquet")
    pyarrow.parquet.write_table(
        pa.table({name: pa.array(array).dictionary_encode()}), folder / "codes.parquet", row_group_size=3
    )
    return [
        f"{name}.npy",
        f"all.npz:{name}",
        f"all.safetensors:{name}",
        f"{name}.csv:{name}",
        f"{name}.parquet:{name}",
        f"codes.parquet:{name}",
    ]
