"""`lossd eval` of labels and counts without a sign, in files of every format."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.client.evaluation.conftest import Evaluated
from tests.client.evaluation.files import CLASSES, ROWS, labels, logits, write_everywhere

DTYPES = ["uint8", "uint16", "uint32", "uint64"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_labels_without_a_sign_are_labels(dtype: str, evaluated: Evaluated, tmp_path: Path) -> None:
    """The loss is that of int64, from every format."""
    np.save(tmp_path / "x.npy", logits())
    np.save(tmp_path / "signed.npy", labels())
    expected = json.loads(evaluated("cross_entropy", "--input", "x.npy", "--target", "signed.npy", "--json").out)

    for target in write_everywhere(tmp_path, "y", labels().astype(dtype)):
        found = json.loads(evaluated("cross_entropy", "--input", "x.npy", "--target", target, "--json").out)

        assert (found["loss"], found["measures"]) == (expected["loss"], expected["measures"])
        assert found["files"]["target"]["dtype"] == ("int64" if ".csv" in target else dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_counts_without_a_sign_are_counts(dtype: str, evaluated: Evaluated, tmp_path: Path) -> None:
    """As those of int64."""
    counts = np.random.default_rng(0).integers(0, 200, (ROWS, CLASSES)) + 1
    np.save(tmp_path / "signed.npy", counts)
    np.save(tmp_path / "x.npy", counts.astype(dtype))

    found, expected = (evaluated("entropy", "--kind", "counts", "--input", name) for name in ("x.npy", "signed.npy"))

    assert found.status == 0
    assert found.out.splitlines()[1:] == expected.out.splitlines()[1:]


def test_a_label_that_does_not_fit_is_named(evaluated: Evaluated, tmp_path: Path) -> None:
    """With its file and its row, from every format."""
    np.save(tmp_path / "x.npy", logits())
    wrong = labels().astype(np.uint64)
    wrong[900] = 2**64 - 100  # -100 that was stored without its sign

    for target in write_everywhere(tmp_path, "y", wrong):
        ended = evaluated("cross_entropy", "--input", "x.npy", "--target", target)

        said = "target[900] = 18446744073709551516 does not fit int64, the widest integer that can be sent"
        assert (ended.status, ended.err) == (1, f"lossd eval: {target}: {said}\n")
