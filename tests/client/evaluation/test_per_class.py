"""`lossd eval --per-class`: how many rows each class has, their mean loss, and how many were predicted right."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lossd
from tests.client.evaluation.conftest import Evaluated
from tests.client.evaluation.files import CLASSES, ROWS, labels, logits, write


def classes(evaluated: Evaluated, *arguments: str) -> list[dict[str, Any]]:
    ended = evaluated(*arguments, "--per-class", "--json")
    assert ended.status == 0, ended.err
    found: list[dict[str, Any]] = json.loads(ended.out)["classes"]
    return found


def test_classes_of_indices(evaluated: Evaluated, served: str, tmp_path: Path) -> None:
    """Each that has a row which is not ignored, in their order."""
    write(tmp_path, x=logits(), y=labels())

    found = classes(
        evaluated, "cross_entropy", "--input", "x.npy", "--target", "y.npy", "--ignore-index", "2", "--base", "2"
    )

    with lossd.Client(served) as client:
        losses = client.cross_entropy(logits(), labels(), ignore_index=2, base=2, reduction="none").loss
    right = logits().argmax(1) == labels()
    assert [row["class"] for row in found] == [0, 1, 3, 4, 5, 6]
    for row in found:
        rows = labels() == row["class"]
        assert row["count"] == rows.sum()
        assert row["loss"] == pytest.approx(losses[rows].mean(dtype=np.float64), rel=1e-12)
        assert row["accuracy"] == right[rows].mean()


def test_classes_of_log_probabilities_have_no_accuracy(evaluated: Evaluated, tmp_path: Path) -> None:
    """nll does not look at other classes than the target's."""
    write(tmp_path, u=np.log(np.full((3, 2), 0.5)), y=np.array([1, 1, 0]))

    assert classes(evaluated, "nll", "--input", "u.npy", "--target", "y.npy") == [
        {"class": 0, "count": 1, "loss": pytest.approx(np.log(2))},
        {"class": 1, "count": 2, "loss": pytest.approx(np.log(2))},
    ]


@pytest.mark.parametrize("method, threshold", [("bce", 0.5), ("bce_with_logits", 0.0)])
def test_binary_classes(method: str, threshold: float, evaluated: Evaluated, tmp_path: Path) -> None:
    """The elements of target 0 and those of target 1."""
    random = np.random.default_rng(5)
    p, t = random.random((ROWS, 2)), random.integers(0, 2, (ROWS, 2)).astype(np.float32)
    write(tmp_path, p=p, t=t)

    found = classes(evaluated, method, "--input", "p.npy", "--target", "t.npy")

    assert [row["count"] for row in found] == [(t == 0).sum(), (t == 1).sum()]
    assert [row["accuracy"] for row in found] == [((p > threshold) == t)[t == one].mean() for one in (0, 1)]


def test_targets_between_0_and_1_have_no_classes(evaluated: Evaluated, tmp_path: Path) -> None:
    """A warning says so."""
    write(tmp_path, p=np.full(9, 0.5), t=np.linspace(0, 1, 9))

    ended = evaluated("bce", "--input", "p.npy", "--target", "t.npy", "--per-class", "--json")

    assert json.loads(ended.out)["classes"] == []
    assert "--per-class needs targets that are all 0 or 1" in ended.err


def test_distributions_have_no_classes(evaluated: Evaluated, tmp_path: Path) -> None:
    """Exit status 1, before anything is computed; wrong usage where a loss never has them."""
    write(tmp_path, x=logits(), p=np.full((ROWS, CLASSES), 1 / CLASSES))

    ended = evaluated("cross_entropy", "--input", "x.npy", "--target", "p.npy", "--per-class")

    assert (ended.status, ended.err) == (
        1,
        "lossd eval: p.npy holds distributions: --per-class needs class indices\n",
    )
    with pytest.raises(SystemExit):
        evaluated("entropy", "--input", "p.npy", "--per-class")


def test_the_table_has_the_worst_of_many_classes(evaluated: Evaluated, tmp_path: Path) -> None:
    """Greatest mean loss first; the JSON object has all of them."""
    x = np.zeros((300, 300), np.float32)
    np.fill_diagonal(x, np.arange(300) / 100)
    write(tmp_path, x=x, y=np.arange(300))
    arguments = ("cross_entropy", "--input", "x.npy", "--target", "y.npy")

    table = evaluated(*arguments, "--per-class").out

    assert "by class, greatest mean loss first (20 of 300)" in table
    assert re.findall(r"^ +(\d+) +1 +\d", table, re.MULTILINE) == [str(one) for one in range(20)]
    assert len(classes(evaluated, *arguments)) == 300
