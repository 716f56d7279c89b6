"""`lossd eval --save` and `--against`: two runs compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossd.evaluation.comparing import row_sums
from tests.client.evaluation.conftest import Evaluated
from tests.client.evaluation.files import CLASSES, labels, logits, write

RUN = ("cross_entropy", "--target", "y.npy", "--input")


@pytest.fixture(autouse=True)
def saved(evaluated: Evaluated, tmp_path: Path) -> None:
    """old.json, of old.npy; new.npy is a little better in every row, near.npy at random."""
    random = np.random.default_rng(1)
    x = logits()
    better = x + 0.1 * np.eye(CLASSES, dtype=np.float32)[labels()]
    near = x + random.normal(0, 0.01, x.shape).astype(np.float32)
    write(tmp_path, old=x, new=better, near=near, y=labels(), less=better[:900], z=labels()[:900], other=labels()[::-1])
    ended = evaluated(*RUN, "old.npy", "--save", "old.json")
    assert ended.err == "lossd eval: wrote old.json\n"


def against(evaluated: Evaluated, *arguments: str, file: str = "old.json") -> dict[str, Any]:
    ended = evaluated(*arguments, "--against", file, "--json")
    assert ended.status == 0, ended.err
    document: dict[str, Any] = json.loads(ended.out)
    assert document["against"]["difference"] == document["loss"] - document["against"]["loss"]
    found: dict[str, Any] = document["against"]
    return found


def test_a_run_that_is_better(evaluated: Evaluated) -> None:
    """In every row: the interval of the paired differences does not hold 0, where that of the two runs apart does."""
    paired = against(evaluated, *RUN, "new.npy")
    apart = against(evaluated, "cross_entropy", "--target", "z.npy", "--input", "less.npy")

    assert (paired["file"], paired["paired"], paired["note"]) == ("old.json", True, "")
    assert paired["low"] < paired["difference"] < paired["high"] < 0
    assert (apart["paired"], apart["note"]) == (False, "the other run has 1,000 rows, this one 900")
    assert apart["low"] < 0 < apart["high"]
    table = evaluated(*RUN, "new.npy", "--against", "old.json").out
    (line,) = [line for line in table.splitlines() if "difference" in line]
    assert line.endswith("(paired): better")


def test_a_run_that_differs_by_chance(evaluated: Evaluated) -> None:
    """The interval holds 0, and the table says what that means; a run beside itself has no difference."""
    found = against(evaluated, *RUN, "near.npy")

    assert found["low"] < 0 < found["high"]
    assert "(paired): may be chance" in evaluated(*RUN, "near.npy", "--against", "old.json").out
    same = against(evaluated, *RUN, "old.npy")
    assert (same["difference"], same["low"], same["high"]) == (0.0, 0.0, 0.0)


def test_many_rows_are_compared_in_groups(evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same groups in both runs, so that they are paired; the file stays small."""
    whole = against(evaluated, *RUN, "new.npy")
    monkeypatch.setattr(row_sums, "GROUPS", 200)
    evaluated(*RUN, "old.npy", "--save", "grouped.json")

    grouped = against(evaluated, *RUN, "new.npy", file="grouped.json")

    with open("grouped.json", encoding="utf-8") as file:
        rows = json.load(file)["rows"]
    assert (rows["items"], len(rows["loss_sums"]), sum(rows["counts"])) == (1000, 200, 1000)
    assert grouped["paired"]
    for end in ("low", "high"):
        assert grouped[end] - grouped["difference"] == pytest.approx(whole[end] - whole["difference"], rel=0.2)


def test_rows_of_other_targets_are_not_paired(evaluated: Evaluated) -> None:
    """Nor those of which others are ignored."""
    other = against(evaluated, "cross_entropy", "--input", "new.npy", "--target", "other.npy")
    ignored = against(evaluated, *RUN, "new.npy", "--ignore-index", "3")

    assert (other["paired"], other["note"]) == (False, "the targets of the runs differ")
    assert (ignored["paired"], ignored["note"]) == (False, "the runs ignore different rows")


def test_what_json_prints_has_no_interval(evaluated: Evaluated, tmp_path: Path) -> None:
    """Only what --save writes knows of rows."""
    (tmp_path / "plain.json").write_text(evaluated(*RUN, "old.npy", "--json").out)

    found = against(evaluated, *RUN, "new.npy", file="plain.json")

    assert (found["low"], found["note"]) == (None, "plain.json has no sums of its rows, which --save keeps")


def test_weights_have_no_interval(evaluated: Evaluated, tmp_path: Path) -> None:
    """The difference is told all the same."""
    np.save(tmp_path / "w.npy", np.linspace(1, 2, CLASSES))

    found = against(evaluated, *RUN, "new.npy", "--weight", "w.npy")

    assert (found["low"], found["note"]) == (None, "with weights there is none")


def test_other_options_are_warned_of(evaluated: Evaluated) -> None:
    """By name, with both values."""
    ended = evaluated(*RUN, "new.npy", "--against", "old.json", "--label-smoothing", "0.1")

    assert "old.json was computed with other options: label_smoothing is 0.1 here and not given there" in ended.err


WRONG = {
    "no such file": (None, "run.json: No such file"),
    "no JSON": ("{", "run.json: is not JSON"),
    "another's": ('{"loss": 1}', "run.json: is not what lossd eval --save or --json writes"),
    "a list": ("[1]", "run.json: is not what lossd eval --save or --json writes"),
}


@pytest.mark.parametrize("text, words", WRONG.values(), ids=WRONG)
def test_a_file_that_is_no_run(text: str | None, words: str, evaluated: Evaluated, tmp_path: Path) -> None:
    """Exit status 1, with the file's name, before anything is computed."""
    if text is not None:
        (tmp_path / "run.json").write_text(text)

    ended = evaluated(*RUN, "new.npy", "--against", "run.json")

    assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert words in ended.err


def test_losses_of_two_kinds_are_not_compared(evaluated: Evaluated) -> None:
    """Nor units; nor anything but means."""
    unit = evaluated(*RUN, "new.npy", "--against", "old.json", "--base", "2")
    loss = evaluated("entropy", "--input", "new.npy", "--kind", "logits", "--against", "old.json")
    evaluated(*RUN, "old.npy", "--save", "sum.json", "--reduction", "sum")
    sums = evaluated(*RUN, "new.npy", "--against", "sum.json")

    assert unit.err == "lossd eval: old.json: its unit is nats, this run's is bits: they cannot be compared\n"
    assert "its loss is cross_entropy, this run's is entropy" in loss.err
    assert "sum.json: its loss is not a mean (--reduction sum), and means are compared" in sums.err
    with pytest.raises(SystemExit):
        evaluated(*RUN, "new.npy", "--against", "old.json", "--reduction", "sum")


def test_a_loss_that_is_nan_is_told(evaluated: Evaluated, tmp_path: Path) -> None:
    """As "NaN" in the file, and as a difference that is none."""
    np.save(tmp_path / "nan.npy", np.where(np.arange(7000).reshape(1000, 7) == 9, np.nan, logits()))

    ended = evaluated(*RUN, "nan.npy", "--against", "old.json", "--save", "nan.json", "--json")

    found = json.loads(ended.out)["against"]
    assert (found["difference"], found["low"]) == ("NaN", None)
    assert found["note"] == "there are fewer than two rows, or losses that are not finite"
    with open("nan.json", encoding="utf-8") as file:
        assert json.load(file)["rows"]["loss_sums"][1] == "NaN"
    assert evaluated(*RUN, "old.npy", "--against", "nan.json").status == 0
