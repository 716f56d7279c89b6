"""`lossd eval --against --fail-if-worse`: an exit status for a loss that is worse by more than chance."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.client.evaluation.conftest import Ended, Evaluated
from tests.client.evaluation.files import CLASSES, labels, logits, write

RUN = ("cross_entropy", "--target", "y.npy", "--against", "old.json", "--input")


@pytest.fixture(autouse=True)
def saved(evaluated: Evaluated, tmp_path: Path) -> None:
    """old.json; of the others each row is worse or better by some hundredths, or at random."""
    x, random = logits(), np.random.default_rng(1)
    step = 0.1 * np.eye(CLASSES, dtype=np.float32)[labels()]
    near = x + random.normal(0, 0.01, x.shape).astype(np.float32)
    write(tmp_path, old=x, worse=x - step, better=x + step, near=near, y=labels())
    run = ("cross_entropy", "--target", "y.npy", "--input", "old.npy")
    assert evaluated(*run, "--save", "old.json").status == 0
    (tmp_path / "plain.json").write_text(evaluated(*run, "--json").out)


def gated(evaluated: Evaluated, name: str, *by: str) -> Ended:
    """With JSON, whose difference has to be read for a bound."""
    return evaluated(*RUN, name, "--json", "--fail-if-worse", *by)


def test_worse(evaluated: Evaluated) -> None:
    """Status 3, with the difference, its interval and the run that it is of; the result is printed all the same."""
    ended = gated(evaluated, "worse.npy")
    document = json.loads(ended.out)

    against = document["against"]
    sentence = (
        f"the loss is worse than in old.json: {against['difference']:+.6g} nats, "
        f"95 % from {against['low']:+.4g} to {against['high']:+.4g}"
    )
    assert (ended.status, ended.err) == (3, f"lossd eval: {sentence}\n")
    assert document["failures"] == [sentence]


@pytest.mark.parametrize("name", ["better.npy", "near.npy", "old.npy"])
def test_what_is_not_worse_passes(name: str, evaluated: Evaluated) -> None:
    """What is better, what cannot be told apart, and the same."""
    ended = gated(evaluated, name)

    assert (ended.status, ended.err) == (0, "")
    assert "failures" not in json.loads(ended.out)


def test_what_is_allowed(evaluated: Evaluated) -> None:
    """The whole interval must lie above it: a bound within, or beyond, passes."""
    found = json.loads(gated(evaluated, "worse.npy").out)["against"]
    assert 0 < found["low"] < found["difference"] < found["high"]

    below = gated(evaluated, "worse.npy", repr(found["low"] / 2))
    within = gated(evaluated, "worse.npy", repr(found["difference"]))
    beyond = gated(evaluated, "worse.npy", repr(2 * found["high"]))

    assert [below.status, within.status, beyond.status] == [3, 0, 0]
    assert f"old.json by more than --fail-if-worse {found['low'] / 2:g}: +" in below.err
    assert within.err == beyond.err == ""


def test_the_end_of_the_interval_is_allowed(evaluated: Evaluated) -> None:
    """As --fail-above lets its bound pass."""
    low = json.loads(gated(evaluated, "worse.npy").out)["against"]["low"]

    assert gated(evaluated, "worse.npy", repr(low)).status == 0
    assert gated(evaluated, "worse.npy", repr(float(np.nextafter(low, 0)))).status == 3


def test_without_an_interval_it_fails(evaluated: Evaluated, tmp_path: Path) -> None:
    """For nothing says then that the loss is not worse; the reason is told."""
    np.save(tmp_path / "nan.npy", np.where(np.arange(7000).reshape(1000, 7) == 9, np.nan, logits()))
    np.save(tmp_path / "w.npy", np.linspace(1, 2, CLASSES))

    nan = gated(evaluated, "nan.npy")
    weighted = evaluated(*RUN, "better.npy", "--weight", "w.npy", "--fail-if-worse")

    assert (nan.status, weighted.status) == (3, 3)
    cannot = "lossd eval: --fail-if-worse cannot tell: no confidence interval against old.json: "
    assert f"{cannot}there are fewer than two rows, or losses that are not finite\n" in nan.err
    assert f"{cannot}with weights there is none\n" in weighted.err


def test_a_run_without_rows_is_refused(evaluated: Evaluated) -> None:
    """Before anything is computed: it can be compared, and no gate can be made of it."""
    run = ("cross_entropy", "--target", "y.npy", "--input", "better.npy", "--against", "plain.json")
    ended = evaluated(*run, "--fail-if-worse")

    assert (ended.status, ended.out) == (1, "")
    assert ended.err == "lossd eval: --fail-if-worse needs the sums of rows that --save keeps; plain.json has none\n"
    assert evaluated(*run).status == 0


def test_without_another_run_it_is_wrong_usage(evaluated: Evaluated, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, with what is missing."""
    with pytest.raises(SystemExit) as caught:
        evaluated("cross_entropy", "--target", "y.npy", "--input", "old.npy", "--fail-if-worse", "0.1")

    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith("error: --fail-if-worse needs --against FILE, the run to compare with\n")


@pytest.mark.parametrize("by", ["-1", "nan", "inf", "abc", ""])
def test_what_cannot_be_allowed(by: str, evaluated: Evaluated, capsys: pytest.CaptureFixture[str]) -> None:
    """Less than nothing, no number, and what would let everything pass."""
    with pytest.raises(SystemExit) as caught:
        gated(evaluated, "old.npy", by)

    assert caught.value.code == 2
    assert "argument --fail-if-worse: " in capsys.readouterr().err


def test_the_loss_may_stand_behind_it(evaluated: Evaluated) -> None:
    """It is not taken for BY."""
    ended = evaluated("--target", "y.npy", "--input", "worse.npy", "--against", "old.json", "--fail-if-worse", RUN[0])

    assert ended.status == 3
