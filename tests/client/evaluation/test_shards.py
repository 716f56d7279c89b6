"""`lossd eval` of several files as one, and of standard input."""

from __future__ import annotations

import io
import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no annotations
import pyarrow.parquet  # type: ignore[import-untyped]
import pytest
from safetensors.numpy import save

from lossd.evaluation.readers import shards
from tests.client.evaluation.conftest import Evaluated
from tests.client.evaluation.files import CLASSES, labels, logits

CUTS = [0, 400, 400, 750, 1000]  # one of the files has no rows


def loss(evaluated: Evaluated, *arguments: str) -> dict[str, Any]:
    ended = evaluated("cross_entropy", *arguments, "--json", "--worst", "3")
    assert ended.status == 0, ended.err
    found: dict[str, Any] = json.loads(ended.out)
    return found


def csv(start: int, stop: int, separator: str = ",", header: bool = True) -> str:
    rows = [
        separator.join([*map(str, x), str(y)]) for x, y in zip(logits()[start:stop], labels()[start:stop], strict=True)
    ]
    names = [separator.join([*"abcdefg", "label"])] if header else []
    return "\n".join([*names, *rows]) + "\n"


@pytest.fixture
def whole(evaluated: Evaluated, tmp_path: Path) -> dict[str, Any]:
    """What is said of the rows in one file."""
    np.save(tmp_path / "logits.npy", logits())
    np.save(tmp_path / "labels.npy", labels())
    (tmp_path / "whole.csv").write_text(csv(0, 1000))
    return loss(evaluated, "--input", "whole.csv", "--target", "whole.csv:label")


def same(found: dict[str, Any], whole: dict[str, Any]) -> bool:
    worst = [{name: row[name] for name in ("index", "loss", "target", "predicted")} for row in found["worst"]]
    return bool((found["loss"], found["measures"], worst) == (whole["loss"], whole["measures"], whole["worst"]))


def test_a_pattern_and_a_list_are_one_array(evaluated: Evaluated, whole: dict[str, Any], tmp_path: Path) -> None:
    """A pattern's files by name, listed ones as they stand; rows are told by file and place in it, too."""
    for i, (start, stop) in enumerate([(0, 400), (400, 750), (750, 1000)]):
        (tmp_path / f"part-{i}.csv").write_text(csv(start, stop))

    pattern = loss(evaluated, "--input", "part-*.csv", "--target", "part-*.csv:label")
    names = [f"part-{i}.csv" for i in range(3)]
    listed = loss(evaluated, "--target", *[f"{name}:label" for name in names], "--input", *names)

    assert same(pattern, whole)
    assert listed == pattern
    assert pattern["files"]["target"]["file"] == "part-0.csv:label … part-2.csv:label (3 files)"
    assert [one["items"] for one in pattern["files"]["input"]["files"]] == [400, 350, 250]
    for row in pattern["worst"]:
        assert [0, 400, 750][names.index(row["file"])] + row["row"] == row["index"]


@pytest.mark.parametrize("suffix", ["npy", "parquet", "tsv"])
def test_shards_of_every_kind(suffix: str, evaluated: Evaluated, whole: dict[str, Any], tmp_path: Path) -> None:
    """Blocks that span files, of which one may be empty."""
    for i, (start, stop) in enumerate(pairwise(CUTS)):
        x, y = logits()[start:stop].astype(np.float64), labels()[start:stop]
        if suffix == "npy":
            np.save(tmp_path / f"x-{i}.npy", x)
            np.save(tmp_path / f"y-{i}.npy", y)
        elif suffix == "parquet":
            lists = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), CLASSES)
            pa.parquet.write_table(pa.table({"x": lists, "label": y}), tmp_path / f"p-{i}.parquet", row_group_size=37)
        elif stop > start:
            (tmp_path / f"p-{i}.tsv").write_text(csv(start, stop, "\t"))
    names = ("x-*.npy", "y-*.npy") if suffix == "npy" else (f"p-*.{suffix}", f"p-*.{suffix}:label")

    assert same(loss(evaluated, "--input", names[0], "--target", names[1]), whole)


def test_a_header_of_the_first_file_holds_for_those_without(
    evaluated: Evaluated, whole: dict[str, Any], tmp_path: Path
) -> None:
    """As `split` leaves them. The table says which file had it."""
    (tmp_path / "xaa.csv").write_text(csv(0, 500))
    (tmp_path / "xab.csv").write_text(csv(500, 1000, header=False))

    assert same(loss(evaluated, "--input", "xa?.csv", "--target", "xa?.csv:label"), whole)
    table = evaluated("cross_entropy", "--input", "xa?.csv", "--target", "xa?.csv:label").out
    assert [line.split() for line in table.splitlines() if "header" in line] == [
        ["header", "first", "row", "of", "xaa.csv"],
        ["header", "none", "of", "xab.csv"],
    ]


def test_large_tables_are_held_one_at_a_time(
    evaluated: Evaluated, whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And read again for their rows."""
    monkeypatch.setattr(shards, "HELD_BYTES", 10)
    for i, (start, stop) in enumerate([(0, 400), (400, 750), (750, 1000)]):
        (tmp_path / f"part-{i}.csv").write_text(csv(start, stop))

    assert same(loss(evaluated, "--input", "part-*.csv", "--target", "part-*.csv:label"), whole)


WRONG = {
    "columns": ("a,b,label\n.5,.5,0\n", "part-1.csv has the columns a, b, but part-0.csv has a, b, c, d, e, f, g"),
    "names": (csv(0, 2).replace("g", "h"), "part-1.csv has the columns a, b, c, d, e, f, h, but part-0.csv has a, b"),
    "short": (csv(0, 2) + "1,2\n", "part-1.csv: row 2 has 2 cells, but there are 8 columns"),
    "text": (
        csv(0, 2) + "1,x,1,1,1,1,1,1\n",
        "part-1.csv: column b holds values of type string, not numbers (row 2:",
    ),
    "empty": ("", "part-1.csv: the file is empty"),
    "class": (csv(0, 2) + "1,1,1,1,1,1,1,7\n", "part-1.csv:label: target[2] = 7 is outside [0, 7)"),
    "header": (csv(0, 2, header=False).replace("\n", ",1\n"), "part-1.csv: no column 'label'"),
}


@pytest.mark.parametrize("text, words", WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_of_its_file(text: str, words: str, evaluated: Evaluated, tmp_path: Path) -> None:
    """With the row counted in that file."""
    (tmp_path / "part-0.csv").write_text(csv(0, 5))
    (tmp_path / "part-1.csv").write_text(text)

    ended = evaluated("cross_entropy", "--input", "part-*.csv", "--target", "part-*.csv:label")

    assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert words in ended.err


def test_a_nan_is_named_by_its_file(evaluated: Evaluated, tmp_path: Path) -> None:
    """And its row there."""
    for i in range(2):
        np.save(tmp_path / f"x-{i}.npy", np.where(np.arange(6).reshape(3, 2) + i == 5, np.nan, 0.5))

    ended = evaluated("entropy", "--input", "x-*.npy")

    assert ended.err.startswith("lossd eval: warning: the loss of row 2 is NaN: x-0.npy has NaN in its row 2")


def test_a_flag_that_is_repeated_adds_files(evaluated: Evaluated, whole: dict[str, Any], tmp_path: Path) -> None:
    """None is forgotten."""
    for i, (start, stop) in enumerate([(0, 400), (400, 1000)]):
        (tmp_path / f"part-{i}.csv").write_text(csv(start, stop))
    flags = [text for i in range(2) for text in ("--input", f"part-{i}.csv", "--target", f"part-{i}.csv:label")]

    assert same(loss(evaluated, *flags), whole)


@pytest.mark.parametrize(
    "input, target, words",
    [
        (["none-*.csv"], ["y-0.npy"], "none-*.csv: no file matches this pattern"),
        (["x-0.npy", "x-1.npy"], ["y-1.npy", "y-0.npy"], "y-1.npy has 2 rows, but x-0.npy has 3"),
        (["t-0.csv", "t-1.csv"], ["t-1.csv:y", "t-0.csv:y"], "are those of --input in another order"),
        (["x-0.npy", "wide.npy"], ["y-0.npy", "y-1.npy"], "wide.npy has rows of shape [3], but x-0.npy has [2]"),
        (["x-0.npy", "half.npy"], ["y-0.npy", "y-1.npy"], "half.npy has dtype float16, but x-0.npy has float64"),
        (["x-0.npy", "x-1.npy"], ["y-0.npy", "missing.npy"], "missing.npy: no such file"),
        (["x-0.npy,x-1.npy"], ["y-0.npy"], "x-0.npy,x-1.npy: no such file; several files have blanks between them"),
        (["."], ["y-0.npy"], ".: is a folder; give files, as in './*.csv'"),
    ],
)
def test_files_that_do_not_go_together(
    input: list[str], target: list[str], words: str, evaluated: Evaluated, tmp_path: Path
) -> None:
    """One sentence."""
    for i, rows in enumerate([3, 2]):
        np.save(tmp_path / f"x-{i}.npy", np.zeros((rows, 2)))
        np.save(tmp_path / f"y-{i}.npy", np.zeros(rows, np.int64))
        (tmp_path / f"t-{i}.csv").write_text("a,b,y\n.5,.5,0\n")
    np.save(tmp_path / "wide.npy", np.zeros((2, 3)))
    np.save(tmp_path / "half.npy", np.zeros((2, 2), np.float16))

    ended = evaluated("cross_entropy", "--input", *input, "--target", *target)

    assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert words in ended.err


def piped(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.mark.parametrize("kind", [",", ";", "\t", "npy", "npz", "safetensors", "parquet"])
def test_standard_input_is_a_file_of_any_kind(
    kind: str, evaluated: Evaluated, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read once, also where input and target are columns of it."""
    x, y = logits().astype(np.float64), labels()
    file = io.BytesIO()
    input, target = "-", "-:label"
    if kind == "npy":
        np.save(file, x)
        target = "labels.npy"
    elif kind == "npz":
        np.savez(file, allow_pickle=False, x=x, label=y)
        input = "-:x"
    elif kind == "safetensors":
        file.write(save({"x": x, "label": y}))
        input = "-:x"
    elif kind == "parquet":
        pa.parquet.write_table(pa.table({"x": list(x), "label": y}), file)
    else:
        file.write(csv(0, 1000, kind).encode())
    piped(monkeypatch, file.getvalue())

    assert same(loss(evaluated, "--input", input, "--target", target), whole)


@pytest.mark.parametrize(
    "data, words", [(b"", "standard input is empty"), (b"a,b\n1\n", "standard input: row 0 has 1 cells")]
)
def test_what_is_wrong_with_standard_input(
    data: bytes, words: str, evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said of standard input, not of the file that it is kept in."""
    piped(monkeypatch, data)

    assert evaluated("entropy", "--input", "-").err.startswith(f"lossd eval: {words}")


def test_a_terminal_is_not_waited_for(evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody types a file."""
    piped(monkeypatch, b"")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)

    assert "standard input is a terminal" in evaluated("entropy", "--input", "-").err
