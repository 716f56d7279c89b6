"""`lossd eval` of files that are damaged, or hold something else than numbers: a sentence each, never a traceback."""

from __future__ import annotations

import datetime
import gzip
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no annotations
import pyarrow.parquet  # type: ignore[import-untyped]
import pytest
import torch
from safetensors.numpy import save
from safetensors.torch import save as save_torch

from tests.client.evaluation.conftest import Evaluated

X = np.random.default_rng(0).dirichlet(np.ones(3), 6).astype(np.float32)


def npy(array: npt.NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npy_header(header: bytes) -> bytes:
    """A .npy file with this header and a hundred bytes."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(100)


def npz(write: Callable[..., None] = np.savez, **arrays: Any) -> bytes:
    file = io.BytesIO()
    write(file, **arrays)
    return file.getvalue()


def archive(name: str, data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr(name, data)
    return file.getvalue()


def encrypted(data: bytes) -> bytes:
    """A zip archive whose flags say that its entries are."""
    flagged = bytearray(data)
    flagged[data.index(b"PK\x03\x04") + 6] |= 1
    flagged[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(flagged)


def parquet(*tables: dict[str, Any], **options: Any) -> bytes:
    """A row group for each table."""
    made = [pa.table(table) for table in tables]
    file = pa.BufferOutputStream()
    with pa.parquet.ParquetWriter(file, made[0].schema, **options) as writer:
        for table in made:
            writer.write_table(table)
    return bytes(file.getvalue().to_pybytes())


def twice_named() -> bytes:
    file = pa.BufferOutputStream()
    pa.parquet.write_table(pa.table([pa.array([0.5]), pa.array([0.5])], names=["a", "a"]), file)
    return bytes(file.getvalue().to_pybytes())


def overwritten(data: bytes, start: int, stop: int) -> bytes:
    return data[:start] + b"\xff" * (stop - start) + data[stop:]


HALVES = [0.5, 0.5]
LIST = pa.list_(pa.float64())
COLUMN = {"a": np.arange(5000.0)}
# The file, its bytes, and what is said of it.
ODD: list[tuple[str, bytes, str]] = [
    ("empty.npy", b"", "the file is empty"),
    ("text.npy", b"hello", "it does not begin as such files do"),
    ("pickle.npy", pickle.dumps([1, 2]), "it does not begin as such files do"),
    ("archive.npy", npz(x=X), "it does not begin as such files do"),
    ("short.npy", npy(X)[:-20], "could only read 13 elements"),
    ("cut.npy", npy(X)[:40], "reading array header"),
    ("objects.npy", npy(np.array([None, 1], object)), "Object arrays cannot be loaded"),
    ("huge.npy", npy_header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999999,)}\n"), "not fit in"),
    ("negative.npy", npy_header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-3, 2)}\n"), "cannot be read"),
    ("nested.npy", npy_header(b"(" * 3000), "cannot be read as .npy"),
    ("dtype.npy", npy_header(b"{'descr': '<q9', 'fortran_order': False, 'shape': (3, 2)}\n"), "'<q9'"),
    ("dates.npy", npy(np.array(["2020-01-01"], "M8[ns]")), "input has dtype datetime64[ns]"),
    ("text_array.npy", npy(np.array(["a"])), "input has dtype str"),
    ("records.npy", npy(np.zeros(3, [("a", "f4")])), "input has dtype void32"),
    ("complex.npy", npy(np.zeros((2, 2), complex)), "input has dtype complex128"),
    ("scalar.npy", npy(np.array(0.5, np.float32)), "a class dimension is needed"),
    ("ranks.npy", npy(np.zeros((1,) * 30, np.float32)), "30 dimensions"),
    ("empty.npz", b"", "it is not a zip archive"),
    ("array.npz", npy(X), "it is not a zip archive"),
    ("half.npz", npz(x=X)[:200], "it is not a zip archive"),
    ("objects.npz", npz(x=np.array([None], object)), "Object arrays cannot be loaded"),
    ("overwritten.npz", overwritten(npz(np.savez_compressed, x=X), 60, 90), "cannot be read as .npz"),
    ("encrypted.npz", encrypted(npz(x=X)), "cannot be read as .npz"),
    ("other.npz", archive("readme.txt", b"hello"), "readme.txt is not an array"),
    ("none.npz", npz(), "the file has nothing"),
    ("empty.safetensors", b"", "cannot be read as .safetensors"),
    ("text.safetensors", b"hello", "cannot be read as .safetensors"),
    ("short.safetensors", save({"x": X})[:-5], "cannot be read as .safetensors"),
    ("header.safetensors", b"\x04" + bytes(7) + b'{"x"', "cannot be read as .safetensors"),
    ("length.safetensors", b"\xff" * 8 + save({"x": X})[8:], "cannot be read as .safetensors"),
    ("none.safetensors", save({}), "the file has nothing"),
    ("float8.safetensors", save_torch({"x": torch.zeros(2, 3).to(torch.float8_e5m2)}), "x is F8_E5M2"),
    ("complex.safetensors", save_torch({"x": torch.zeros(2, 3, dtype=torch.complex64)}), "x is C64"),
    ("bool.safetensors", save({"x": X > 0.5}), "input has dtype bool"),
    ("empty.parquet", b"", "cannot be read as .parquet"),
    ("text.parquet", b"hello", "cannot be read as .parquet"),
    ("half.parquet", parquet(COLUMN)[:4000], "cannot be read as .parquet"),
    ("overwritten.parquet", overwritten(parquet(COLUMN, write_page_checksum=True), 2000, 2100), "overwritten.parquet:"),
    ("twice.parquet", twice_named(), "columns 0 and 1 are called 'a'"),
    ("null.parquet", parquet({"a": [0.5, None], "b": HALVES}), "column a has no number in row 1"),
    ("nulls.parquet", parquet({"a": pa.nulls(2), "b": HALVES}), "column a has no number in row 0"),
    ("null_in_list.parquet", parquet({"x": [HALVES, [0.5, None]]}), "column x has a list without a number in row 1"),
    ("null_list.parquet", parquet({"x": [HALVES, None]}), "column x has no number in row 1"),
    ("null_fixed.parquet", parquet({"x": pa.array([HALVES, None], pa.list_(pa.float64(), 2))}), "no number in row 1"),
    ("null_deep.parquet", parquet({"x": [[HALVES], [[0.5, None]]]}), "column x has a list without a number in row 1"),
    ("ragged.parquet", parquet({"x": [HALVES, [1.0]]}), "the lists of column x have 1 to 2 entries"),
    ("ragged_deep.parquet", parquet({"x": [[HALVES, [1.0]]]}), "the lists of column x have 1 to 2 entries"),
    ("ragged_groups.parquet", parquet({"x": [HALVES]}, {"x": [[0.2, 0.3, 0.5]]}), "2 entries in row 0 and 3 in row 1"),
    (
        "words.parquet",
        parquet({"a": ["u", "v"]}),
        "column a holds values of type string, not numbers (row 0: 'u'); convert it",
    ),
    ("beside.parquet", parquet({"a": HALVES, "b": HALVES, "note": ["u", "v"]}), "as in beside.parquet:a,b"),
    ("categories.parquet", parquet({"a": pa.array(["u", "v"]).dictionary_encode()}), "column a holds values of type d"),
    ("decimals.parquet", parquet({"a": [Decimal("0.5")]}), "column a holds values of type decimal128(1, 1)"),
    ("times.parquet", parquet({"a": [datetime.datetime(2020, 1, 1)]}), "column a holds values of type timestamp[us]"),
    ("struct.parquet", parquet({"s": [{"u": 1.0}]}), "column s holds values of type struct"),
    ("map.parquet", parquet({"m": pa.array([[("k", 1.0)]], pa.map_(pa.string(), pa.float64()))}), "column m holds val"),
    ("bytes.parquet", parquet({"a": [b"x"]}), "column a holds values of type binary"),
    ("bool.parquet", parquet({"a": [True], "b": [False]}), "input has dtype bool"),
    ("signs.parquet", parquet({"a": np.array([1], np.uint64), "b": np.array([1])}), "have dtypes int64, uint64"),
    ("empty.csv", b"", "the file is empty"),
    ("zipped.csv", gzip.compress(b"a,b\n.5,.5\n"), "is not a text file"),
    ("utf16.csv", "a,b\n.5,.5\n".encode("utf-16"), "is not a text file"),
    ("packed.csv.gz", gzip.compress(b"a,b\n.5,.5\n"), "decompress it first"),
    ("x.txt", b"a\tb\n.5\t.5\n", "unsupported file type"),
]


@pytest.mark.parametrize("name, data, words", ODD, ids=[name for name, _, _ in ODD])
def test_a_file_that_cannot_be_used_is_told_in_a_line(
    name: str, data: bytes, words: str, evaluated: Evaluated, tmp_path: Path
) -> None:
    """The file's name and what is the matter; exit status 1."""
    (tmp_path / name).write_bytes(data)

    ended = evaluated("entropy", "--input", name)

    assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert ended.err.startswith(f"lossd eval: {name}: ")
    assert words in ended.err


# The file, its bytes, and the shape that is read.
READ: list[tuple[str, bytes, list[int]]] = [
    ("fortran.npy", npy(np.asfortranarray(X)), [6, 3]),
    ("big_endian.npy", npy(X.astype(">f4")), [6, 3]),
    ("no_rows.npy", npy(X[:0]), [0, 3]),
    ("no_rows.npz", npz(x=X[:0]), [0, 3]),
    ("no_rows.safetensors", save({"x": X[:0]}), [0, 3]),
    ("no_classes.safetensors", save({"x": X[:, :0]}), [6, 0]),
    ("no_bfloat16.safetensors", save_torch({"x": torch.zeros(0, 3).bfloat16()}), [0, 3]),
    ("no_rows.parquet", parquet({"a": pa.array([], pa.float64()), "b": pa.array([], pa.float64())}), [0, 2]),
    ("no_lists.parquet", parquet({"x": pa.array([], pa.list_(pa.float32(), 3))}), [0, 3]),
    ("empty_lists.parquet", parquet({"x": pa.array([[], []], LIST)}), [2, 0]),
    ("deep.parquet", parquet({"x": [[HALVES, HALVES, HALVES]] * 2}), [2, 3, 2]),
    ("fixed.parquet", parquet({"x": pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), 3)}), [6, 3]),
    ("large.parquet", parquet({"x": pa.array([HALVES], pa.large_list(pa.float64()))}), [1, 2]),
    ("codes.parquet", parquet({"a": pa.array(HALVES).dictionary_encode(), "b": HALVES}), [2, 2]),
    ("half.parquet", parquet({"a": np.array(HALVES, np.float16), "b": np.array(HALVES, np.float16)}), [2, 2]),
    ("dots.parquet", parquet({"a.b": HALVES, "c": HALVES}), [2, 2]),
    ("groups.parquet", parquet({"x": [HALVES]}, {"x": pa.array([], LIST)}, {"x": [HALVES] * 3}), [4, 2]),
    ("index.parquet", parquet({"a": HALVES, "b": HALVES, "__index_level_0__": [0, 1]}), [2, 2]),
]


@pytest.mark.parametrize("name, data, shape", READ, ids=[name for name, _, _ in READ])
def test_an_odd_file_of_numbers_is_read(
    name: str, data: bytes, shape: list[int], evaluated: Evaluated, tmp_path: Path
) -> None:
    """Other orders, no rows, lists of lists, encodings: the numbers are there, and so is the shape."""
    (tmp_path / name).write_bytes(data)

    ended = evaluated("entropy", "--input", name, "--json")

    found = json.loads(ended.out)
    assert (ended.status, found["files"]["input"]["shape"]) == (0, shape)
    assert found["summary"]["count"] == (int(np.prod(shape)) // shape[1] if shape[1] else 0)


def test_text_beside_a_target_is_not_blamed_on_it(evaluated: Evaluated, tmp_path: Path) -> None:
    """It is the input that takes every column which no other option uses."""
    table = {"a": HALVES, "note": ["u", "v"], "label": [0, 1], "b": HALVES}
    (tmp_path / "x.parquet").write_bytes(parquet(table))

    ended = evaluated("cross_entropy", "--input", "x.parquet", "--target", "x.parquet:label")
    wrong = evaluated("cross_entropy", "--input", "x.parquet:a,b", "--target", "x.parquet:note")

    assert (
        "column note holds values of type string, not numbers (row 0: 'u'); --input x.parquet takes every column"
        in ended.err
    )
    assert "as in x.parquet:a,b" in ended.err
    assert "class indices" not in ended.err
    assert "column note holds values of type string, not numbers (row 0: 'u'); class indices are integers" in wrong.err


@pytest.mark.parametrize(
    "name, words",
    [("none.npy", "no such file"), ("folder.npy", "is a folder"), ("pipe.csv", "is a pipe"), ("f" * 300 + ".npy", "")],
)
def test_what_is_not_a_file_is_said(name: str, words: str, evaluated: Evaluated, tmp_path: Path) -> None:
    """Before anything is read: a pipe would be waited for."""
    (tmp_path / "folder.npy").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")

    ended = evaluated("entropy", "--input", name)

    assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert ended.err.startswith(f"lossd eval: {name}: {words}")
