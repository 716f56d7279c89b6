"""`lossd eval` of .csv files: which first row is a header, and that no row or column is lost in silence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lossd import cli
from tests.client.evaluation.conftest import Evaluated

NUMBERS = ["0,1", "0.2,0.8", '"0.2","0.8"', "2019,2020", "1e-3,inf", " 0.5 , 0.5 ", "\ufeff0.5,0.5", "0.5"]
TEXT = ["a,b", '"a","b"', ",a,b", "a b,c-d", "\ufeffa,b", "# a,b", "label"]
# A first row, and the cell that is named.
MIXED = {
    "0.2,NA,0.5": "Cell 1 of it (counted from 0) is 'NA'",
    "0.2,,0.5": "Cell 1 of it (counted from 0) is empty",
    "0.2,0.8,": "Cell 2 of it (counted from 0) is empty",
    ",0,1": "Cell 0 of it (counted from 0) is empty",
    "nan,0.5": "Cell 0 of it (counted from 0) is 'nan'",
    "a,1": "Cell 0 of it (counted from 0) is 'a'",
    "2020-01-01,0.5": "Cell 0 of it (counted from 0) is '2020-01-01'",
    "1_000,0.5": "Cell 0 of it (counted from 0) is '1_000'",
    "NA,NA": "Cell 0 of it (counted from 0) is 'NA'",
    "true,false": "Cell 0 of it (counted from 0) is 'true'",
    "a,,b": "Cell 1 of it (counted from 0) is empty",
    "a,NULL": "Cell 1 of it (counted from 0) is 'NULL'",
}


def rows_below(first: str) -> str:
    """Two rows of data, as wide as `first`."""
    return "\n".join([first, *[",".join(["0.5"] * (first.count(",") + 1))] * 2]) + "\n"


@pytest.mark.parametrize("first, header", [*((row, False) for row in NUMBERS), *((row, True) for row in TEXT)])
def test_a_row_of_text_is_a_header_and_a_row_of_numbers_is_data(
    first: str, header: bool, evaluated: Evaluated, tmp_path: Path
) -> None:
    """No number of the file is lost; the table and the JSON object say which was taken."""
    (tmp_path / "x.csv").write_text(rows_below(first), encoding="utf-8")

    table = evaluated("entropy", "--input", "x.csv")
    found = json.loads(evaluated("entropy", "--input", "x.csv", "--json").out)

    columns = first.count(",") + 1 - first.startswith(",")
    shape = [2 if header else 3, columns] if columns > 1 else [2 if header else 3]
    assert found["files"]["input"] == {"file": "x.csv", "shape": shape, "dtype": "float64", "header": header}
    (line,) = [line.split() for line in table.out.splitlines() if line.split()[0] == "header"]
    assert line[1:] == [*(["first", "row"] if header else ["none"]), "of", "x.csv"]
    assert ("left out" in table.out) == first.startswith(",")


@pytest.mark.parametrize("first, cell", MIXED.items())
def test_any_other_first_row_is_asked_about(first: str, cell: str, evaluated: Evaluated, tmp_path: Path) -> None:
    """With the cell that stands out, and the flags that decide."""
    (tmp_path / "x.csv").write_text(rows_below(first))

    ended = evaluated("entropy", "--input", "x.csv")

    assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert f"x.csv: is the first row a header? {cell}" in ended.err
    assert "give --header" in ended.err
    assert "--no-header" in ended.err


@pytest.mark.parametrize(
    "flag, rows, first", [("--header", 2, "2019,2020"), ("--no-header", 3, "0.5,0.5"), ("--header", 2, "a,1")]
)
def test_the_flags_decide(flag: str, rows: int, first: str, evaluated: Evaluated, tmp_path: Path) -> None:
    """A header of years, for one; every .csv file of the command is read so."""
    (tmp_path / "x.csv").write_text(rows_below(first))

    ended = evaluated("entropy", "--input", "x.csv", flag, "--json")

    found = json.loads(ended.out)["files"]["input"]
    assert (found["shape"], found["header"]) == ([rows, 2], flag == "--header")


SEPARATED = [
    ("x.csv", ";", ";"), ("x.csv", "\t", "tab"), ("x.tsv", "\t", None), ("x.TSV", "\t", None),
]  # fmt: skip


@pytest.mark.parametrize("name, separator, shown", SEPARATED)
@pytest.mark.parametrize("header", [True, False])
def test_semicolons_and_tabs_are_seen(
    name: str, separator: str, shown: str | None, header: bool, evaluated: Evaluated, tmp_path: Path
) -> None:
    """The table and the JSON object say so where it is not the file's usual one."""
    rows = [*(["a", '"b c"'] if header else [".5", ".5"],), [".2", ".8"]]
    (tmp_path / name).write_text("\n".join(separator.join(row) for row in rows) + "\n")

    table = evaluated("entropy", "--input", name).out
    found = json.loads(evaluated("entropy", "--input", name, "--json").out)["files"]["input"]

    assert found["shape"] == [1 if header else 2, 2]
    assert found["separator"] == separator
    assert [line.split()[1] for line in table.splitlines() if "separator" in line] == ([shown] if shown else [])


@pytest.mark.parametrize("given, separator", [("|", "|"), ("tab", "\t"), ("\\t", "\t"), ("space", " "), (",", ",")])
def test_a_separator_that_is_given_is_taken(given: str, separator: str, evaluated: Evaluated, tmp_path: Path) -> None:
    """Whatever the first row looks like."""
    (tmp_path / "x.tsv").write_text(separator.join(["a;b", "c"]) + "\n" + separator.join([".5", ".5"]) + "\n")

    found = json.loads(evaluated("entropy", "--input", "x.tsv", "--separator", given, "--json").out)["files"]["input"]

    assert found["shape"] == [1, 2]


def test_a_tsv_file_with_commas_is_asked_about(evaluated: Evaluated, tmp_path: Path) -> None:
    """A column's name may have commas in it."""
    (tmp_path / "x.tsv").write_text("a,b\n.5,.5\n")

    assert (
        "x.tsv: its columns look as if separated by commas: give --separator ','"
        in evaluated("entropy", "--input", "x.tsv").err
    )


def test_a_column_may_have_any_name(evaluated: Evaluated, tmp_path: Path) -> None:
    """One that looks like several columns is taken where a flag says that it is a name."""
    (tmp_path / "x.csv").write_text("p(y|x)\n0.5\n0.5\n")

    assert "give --header or --no-header" in evaluated("self_information", "--input", "x.csv").err
    assert evaluated("self_information", "--input", "x.csv", "--header").status == 0


def test_columns_of_a_header_of_numbers_go_by_their_names(evaluated: Evaluated, tmp_path: Path) -> None:
    """And a name that a file without a header does not have is told of the flag."""
    (tmp_path / "x.csv").write_text("2019,2020\n0.5,0\n0.5,1\n")

    with_header = evaluated("bce", "--input", "x.csv:2019", "--target", "x.csv:2020", "--header")
    without = evaluated("bce", "--input", "x.csv:2019", "--target", "x.csv:2020")

    assert with_header.status == 0
    assert "no column '2019'; the file has 0, 1, since its first row was read as data; give --header" in without.err


WRONG = {
    "a,b,a\n.2,.3,.5\n": "columns 0 and 2 are called 'a'",
    "a,b,c\n.2,.3,.5\n.5,.5\n": "row 1 has 2 cells, but there are 3 columns",
    "a,b\n.5,.5\n.2,.3,.5\n": "row 1 has 3 cells, but there are 2 columns",
    ".5,.5\n.2,.3,.5\n": "row 1 has 3 cells, but there are 2 columns",
    'a,b\n".5,.5\n': "row 0 has 1 cells, but there are 2 columns",
    "a,b\n.5,.5\n\n.5,.5\n": "column a has no number in row 1",
    "a\n.5\n\n.5\n": "column a has no number in row 1",
    "\na,b\n.5,.5\n": "the first line is blank",
    "\n\n": "the first line is blank",
    "a,b\n.5,NA\n": "column b has no number in row 0",
    'a,b\n.5,.5\n.5,""\n': "column b has no number in row 1",
    "a,b\n": "has a header and no rows",
    "a,b": "has a header and no rows",
    "a,b\n\n\n": "has a header and no rows",
    "a|b\n.5|.5\n": "look as if separated by vertical bars: give --separator '|'",
    ".5 .5\n.5 .5\n": "separated by spaces",
    "0,5;0,5\n": "has decimal commas (row 0: '0,5')",
    "a;b\n0,5;0,5\n": "column a has decimal commas (row 0: '0,5'); write decimal points",
    "a,b\n.5,.5\n.5,x\n": "column b holds values of type string, not numbers (row 1: 'x')",
    '"a\nb",c\n.5,.5\n': "a column's name has a line break",
    "a,b,note\n.5,.5,x\n": "name those with numbers, as in x.csv:a,b",
    "\0": "is not a text file",
}


@pytest.mark.parametrize("text, words", WRONG.items())
def test_nothing_is_dropped_in_silence(text: str, words: str, evaluated: Evaluated, tmp_path: Path) -> None:
    """Short rows, long rows, blank lines, missing numbers, other separators: a sentence each, with file and place."""
    (tmp_path / "x.csv").write_text(text)

    ended = evaluated("entropy", "--input", "x.csv")

    assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert ended.err.startswith("lossd eval: x.csv: ")
    assert words in ended.err


@pytest.mark.parametrize("text", ["0.2,,0.8\n.2,.3,.5\n", "a,b,\n.2,.8,\n"])
def test_a_column_without_a_name_is_not_left_out(text: str, evaluated: Evaluated, tmp_path: Path) -> None:
    """Unless it is the first, a data frame's index."""
    (tmp_path / "x.csv").write_text(text)

    assert "has no name in the header" in evaluated("entropy", "--input", "x.csv", "--header").err


def test_the_last_byte_may_be_any(evaluated: Evaluated, tmp_path: Path) -> None:
    """Of a letter beyond ASCII, without a line's end."""
    (tmp_path / "x.csv").write_text("a,b,note\n.5,.5,naïveté", encoding="utf-8")

    assert evaluated("entropy", "--input", "x.csv:a,b").status == 0


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "", "\n\n\n"])
def test_lines_may_end_in_any_way(end: str, evaluated: Evaluated, tmp_path: Path) -> None:
    """The last one, too: blank lines after it are no rows."""
    between = end if end.strip("\n") or len(end) == 1 else "\n"
    (tmp_path / "x.csv").write_bytes((between.join(["a,b", ".5,.5", ".5,.5"]) + end).encode())

    found = json.loads(evaluated("entropy", "--input", "x.csv", "--json").out)

    assert found["files"]["input"]["shape"] == [2, 2]


def test_text_beside_the_columns_that_are_used_may_have_line_breaks(evaluated: Evaluated, tmp_path: Path) -> None:
    """In quotes; the rows are counted as they are."""
    (tmp_path / "x.csv").write_text('a,b,note\n.5,.5,"x\ny"\n.2,.8,z\n')

    found = json.loads(evaluated("entropy", "--input", "x.csv:a,b", "--json").out)

    assert found["files"]["input"]["shape"] == [2, 2]


def test_rows_of_more_than_a_block_are_read(evaluated: Evaluated, tmp_path: Path) -> None:
    """arrow parses 1 MiB at a time unless a row needs more."""
    names = ",".join(f"a_column_with_a_long_name_{i}" for i in range(50_000))
    (tmp_path / "x.csv").write_text(names + "\n" + ",".join(["0.12345678901234567890"] * 50_000) + "\n")

    found = json.loads(evaluated("entropy", "--input", "x.csv", "--json").out)

    assert len(names) > 1 << 20
    assert found["files"]["input"]["shape"] == [1, 50_000]


def test_the_flags_need_a_csv_file(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["eval", "entropy", "--input", "x.npy", "--no-header"])

    assert caught.value.code == 2
    assert "are about .csv files, and none is given" in capsys.readouterr().err
