"""`lossd eval` in a workflow of GitHub's: annotations, and the job's summary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.client.evaluation.conftest import Evaluated
from tests.client.evaluation.files import CLASSES, labels, logits, write

RUN = ("cross_entropy", "--input", "x.npy", "--target", "y.npy")


@pytest.fixture(autouse=True)
def summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    write(tmp_path, x=logits(), y=labels(), p=np.full((3, 2), 0.5))
    return tmp_path / "summary.md"


def test_the_gate_is_an_annotation(evaluated: Evaluated, summary: Path) -> None:
    """On stderr, so that --json stays JSON; the summary begins with why the job fails."""
    ended = evaluated(*RUN, "--fail-above", "0.5", "--worst", "2", "--per-class")

    assert ended.status == 3
    assert ended.err.startswith("::error title=lossd eval::loss ")
    assert ended.err.endswith(" exceeds --fail-above 0.5\n")
    said = summary.read_text(encoding="utf-8")
    assert said.startswith("### ❌ cross\\_entropy of x.npy against y.npy\n\n**loss ")
    assert "| accuracy | " in said
    assert said.count("<details>") == said.count("</details>") == 2


def test_each_gate_is_an_annotation(evaluated: Evaluated, summary: Path, tmp_path: Path) -> None:
    """Those that fail, in the order of their flags, on stderr and at the summary's beginning."""
    np.save(tmp_path / "worse.npy", logits() - np.eye(CLASSES)[labels()])
    evaluated(*RUN, "--save", "old.json")
    summary.unlink()
    run = ("cross_entropy", "--input", "worse.npy", "--target", "y.npy", "--against", "old.json")

    ended = evaluated(*run, "--fail-above", "0.5", "--fail-if-worse")

    assert ended.status == 3
    first, second = ended.err.splitlines()
    assert first.startswith("::error title=lossd eval::loss ")
    assert second.startswith("::error title=lossd eval::the loss is worse than in old.json: +")
    title, above, worse = [line for line in summary.read_text(encoding="utf-8").splitlines() if line][:3]
    assert title.startswith("### ❌")
    assert above.startswith("**loss ")
    assert worse.startswith("**the loss is worse than in old.json: +")


def test_what_is_well_is_in_the_summary_too(evaluated: Evaluated, summary: Path) -> None:
    """Below what is there: several steps write one."""
    summary.write_text("before\n")

    assert evaluated(*RUN, "--fail-above", "9").err == ""
    assert summary.read_text(encoding="utf-8").startswith("before\n### ✅ cross")


def test_a_warning_and_an_error_are_annotations(evaluated: Evaluated, tmp_path: Path) -> None:
    """In one line each, whatever is in them."""
    warned = evaluated("cross_entropy", "--input", "p.npy", "--target", "y%\n.npy")
    np.save(tmp_path / "odd|.npy", np.full((3, 2), 0.5))
    likely = evaluated("entropy", "--kind", "logits", "--input", "odd|.npy")

    assert warned.err == "::error title=lossd eval::y%25%0A.npy: no such file\n"
    assert likely.err.startswith("::warning title=lossd eval::odd|.npy looks like probabilities")
    assert "odd\\|.npy" in (tmp_path / "summary.md").read_text(encoding="utf-8")


def test_a_summary_that_cannot_be_written_fails_nothing(evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said."""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "/nowhere/summary.md")

    ended = evaluated(*RUN)

    assert ended.status == 0
    assert "no job summary: /nowhere/summary.md" in ended.err
