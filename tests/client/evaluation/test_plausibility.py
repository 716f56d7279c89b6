"""Warnings of `lossd eval`: numbers that do not look like what the loss takes, and losses that cannot be right."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lossd.contract import KINDS
from lossd.evaluation.number_form import SAMPLE, NumberForm
from lossd.request.build import METHODS
from tests.client.evaluation.conftest import Evaluated

ROWS, CLASSES = 40, 5
LOGITS = np.random.default_rng(0).normal(0, 3, (ROWS, CLASSES))
SUMS = np.exp(LOGITS).sum(1, keepdims=True)
COUNTS = np.random.default_rng(1).integers(0, 9, (ROWS, CLASSES)) + 1
# One array of each form.
FORMS: dict[str, npt.NDArray[Any]] = {
    "logits": LOGITS,
    "log_probabilities": LOGITS - np.log(SUMS),
    "probabilities": np.exp(LOGITS) / SUMS,
    "counts": COUNTS.astype(np.float64),
    "unnormalised": 100 * np.exp(LOGITS) / SUMS,
}
LABELS = np.random.default_rng(2).integers(0, CLASSES, ROWS)
BINARY = np.random.default_rng(3).integers(0, 2, (ROWS, CLASSES))
ANY = set(FORMS)
NOT_PROBABILITIES = ANY - {"probabilities"}
# Method, the tensor that is looked at, its kind where one is given, and the forms that are warned of. Counts and bce's
# numbers are checked by the server: what is not taken there is an error.
CASES: list[tuple[str, str, str, set[str]]] = [
    ("entropy", "input", "", NOT_PROBABILITIES),
    ("entropy", "input", "probabilities", NOT_PROBABILITIES),
    ("entropy", "input", "logits", {"probabilities"}),
    ("entropy", "input", "counts", set()),
    ("cross_entropy", "input", "", {"probabilities"}),
    ("cross_entropy", "input", "logits", {"probabilities"}),
    ("cross_entropy", "input", "log_probabilities", ANY - {"log_probabilities"}),
    ("cross_entropy", "input", "probabilities", NOT_PROBABILITIES),
    ("cross_entropy", "input", "counts", set()),
    ("cross_entropy", "target", "", NOT_PROBABILITIES),
    ("cross_entropy", "target", "probabilities", NOT_PROBABILITIES),
    ("cross_entropy", "target", "counts", set()),
    ("nll", "input", "", ANY - {"log_probabilities"}),
    ("bce", "input", "", set()),
    ("bce", "target", "", set()),
    ("bce_with_logits", "input", "", {"probabilities"}),
    ("bce_with_logits", "target", "", NOT_PROBABILITIES),
    ("kl_divergence", "input", "", ANY - {"log_probabilities"}),
    ("kl_divergence", "input", "log_probabilities", ANY - {"log_probabilities"}),
    ("kl_divergence", "input", "logits", {"probabilities"}),
    ("kl_divergence", "input", "probabilities", NOT_PROBABILITIES),
    ("kl_divergence", "input", "counts", set()),
    ("kl_divergence", "target", "", NOT_PROBABILITIES),
    ("kl_divergence", "target", "log_probabilities", ANY - {"log_probabilities"}),
    ("kl_divergence", "target", "logits", {"probabilities"}),
    ("kl_divergence", "target", "probabilities", NOT_PROBABILITIES),
    ("kl_divergence", "target", "counts", set()),
    ("self_information", "input", "", NOT_PROBABILITIES),
]
# What goes with the tensor that is looked at, and is as it should be.
RIGHT: dict[tuple[str, str], npt.NDArray[Any]] = {
    ("cross_entropy", "input"): LABELS,
    ("cross_entropy", "target"): LOGITS,
    ("nll", "input"): LABELS,
    ("bce", "input"): BINARY,
    ("bce", "target"): FORMS["probabilities"],
    ("bce_with_logits", "input"): BINARY,
    ("bce_with_logits", "target"): LOGITS,
    ("kl_divergence", "input"): FORMS["probabilities"],
    ("kl_divergence", "target"): FORMS["log_probabilities"],
}


def arguments(method: str, role: str, kind: str, folder: Path, array: npt.NDArray[Any]) -> list[str]:
    """Of `lossd eval`, with `array` as looked.npy."""
    np.save(folder / "looked.npy", array)
    names = {role: "looked.npy"}
    for other in METHODS[method].tensors:
        if other != role:
            np.save(folder / "right.npy", RIGHT[method, role])
            names[other] = "right.npy"
    found = [method, "--reduction", "mean", *(text for name in names for text in (f"--{name}", names[name]))]
    option = "kind" if role == "input" else "target-kind"
    return [*found, f"--{option}", kind] if kind else found


def test_every_kind_of_the_contract_is_here() -> None:
    """A new one fails here until it is looked at."""
    for method, spec in METHODS.items():
        for role, option in (("input", "kind"), ("target", "target_kind")):
            kinds = {*KINDS.get((f"{spec.rpc}Request", option), ()), *([""] if role in spec.tensors else [])}
            if spec.rpc != "Activation" and (method, role) != ("nll", "target"):
                assert {case[2] for case in CASES if case[:2] == (method, role)} == kinds - {"indices"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method, role, kind, warned", CASES, ids=[" ".join(case[:3]) for case in CASES])
def test_numbers_of_another_form_are_warned_of(
    method: str, role: str, kind: str, warned: set[str], form: str, evaluated: Evaluated, tmp_path: Path
) -> None:
    """In one line on stderr; the loss and the exit status stay. What the server refuses is no warning."""
    ended = evaluated(*arguments(method, role, kind, tmp_path, FORMS[form]))

    if ended.status == 1:
        assert "is outside [0, " in ended.err
        assert warned == set()
        return
    # Elements that are looked at alone: log-probabilities are not told from logits, nor percentages from counts.
    assert (ended.status, ended.err.count("\n")) == (0, int(form in warned))
    assert ended.out
    if form in warned:
        assert ended.err.startswith("lossd eval: warning: looked.npy ")
        assert f", but {method} takes " in ended.err


@pytest.mark.parametrize(
    "method, role, form, words, advice",
    [
        ("entropy", "input", "logits", "looks like logits (numbers from ", "give --kind logits"),
        ("entropy", "input", "log_probabilities", "looks like log-probabilities", "give --kind logits, since"),
        ("entropy", "input", "counts", "looks like counts", "give --kind counts"),
        ("entropy", "input", "unnormalised", "has rows that sum to 100 to 100", "--kind counts to divide each row"),
        ("nll", "input", "logits", "looks like logits", "use cross_entropy\n"),
        ("nll", "input", "probabilities", "looks like probabilities", "use cross_entropy --kind probabilities\n"),
        ("cross_entropy", "input", "probabilities", "looks like probabilities", "give --kind probabilities\n"),
        ("cross_entropy", "target", "logits", "takes a target of probabilities", "apply softmax to it first"),
        ("cross_entropy", "target", "counts", "looks like counts", "give --target-kind counts"),
        ("bce_with_logits", "input", "probabilities", "looks like probabilities", "use bce\n"),
        ("bce_with_logits", "target", "logits", "takes a target of probabilities", "must be from 0 to 1"),
        ("kl_divergence", "input", "probabilities", "takes log-probabilities", "give --kind probabilities\n"),
        ("kl_divergence", "target", "logits", "looks like logits", "give --target-kind logits\n"),
        ("kl_divergence", "target", "log_probabilities", "looks like log", "give --target-kind log_probabilities\n"),
        ("self_information", "input", "logits", "looks like logits", "apply softmax to it first"),
    ],
)
def test_a_warning_says_what_to_do(
    method: str, role: str, form: str, words: str, advice: str, evaluated: Evaluated, tmp_path: Path
) -> None:
    """And what is advised, where it is an option, is not warned of."""
    said = evaluated(*arguments(method, role, "", tmp_path, FORMS[form])).err

    assert words in said
    assert advice in said
    if f"give --{'kind' if role == 'input' else 'target-kind'} " in said:
        kind = re.findall(r"kind (\w+)", said)[-1]
        better = evaluated(*arguments(method, role, kind, tmp_path, FORMS[form]))
        assert (better.status, better.err) == (0, "")


def test_bce_of_logits_is_an_error_that_names_the_loss(evaluated: Evaluated, tmp_path: Path) -> None:
    """PyTorch's is one, too."""
    ended = evaluated(*arguments("bce", "input", "", tmp_path, LOGITS))

    assert ended.status == 1
    assert "bce takes probabilities, bce_with_logits takes logits" in ended.err


def test_the_loss_is_printed_all_the_same(evaluated: Evaluated, tmp_path: Path) -> None:
    """As JSON alone on stdout; a NaN is above every --fail-above."""
    found = arguments("entropy", "input", "", tmp_path, LOGITS)

    ended = evaluated(*found, "--json")
    bounded = evaluated(*found, "--fail-above", "inf")

    assert (ended.status, json.loads(ended.out)["loss"]) == (0, "NaN")
    assert ended.err.startswith("lossd eval: warning: ")
    assert (bounded.status, bounded.err.splitlines()[1:]) == (3, ["lossd eval: the loss is NaN"])


def with_nan(array: npt.NDArray[Any], row: int) -> npt.NDArray[Any]:
    found = array.copy()
    found[row, 1] = math.nan
    return found


NANS: list[tuple[list[str], dict[str, npt.NDArray[Any]], str]] = [
    (
        ["cross_entropy"],
        {"input": with_nan(LOGITS, 7), "target": LABELS},
        "the loss of row 7 is NaN: input.npy has NaN there",
    ),
    (["entropy"], {"input": with_nan(FORMS["probabilities"], 9)}, "the loss of row 9 is NaN: input.npy has NaN there"),
    (
        ["cross_entropy"],
        {"input": LOGITS, "target": with_nan(FORMS["probabilities"], 3)},
        "the loss of row 3 is NaN: target.npy has NaN there",
    ),
    (
        ["bce_with_logits", "--reduction", "none"],
        {"input": with_nan(LOGITS, 2), "target": BINARY},
        "the loss of element [2, 1] is NaN: input.npy has NaN there",
    ),
    (["entropy", "--kind", "logits"], {"input": np.full((2, 3), np.inf)}, "the loss of row 0 is NaN"),
    (["entropy"], {"input": np.zeros((0, 3))}, "input.npy has no rows, and the mean of no losses is NaN"),
    (
        ["nll"],
        {"input": FORMS["log_probabilities"], "target": np.full(ROWS, -100)},
        "every row is ignored, and the mean",
    ),
    (
        ["cross_entropy"],
        {"input": LOGITS, "target": LABELS, "weight": np.zeros(CLASSES)},
        "the weights of all rows add up to 0",
    ),
]


@pytest.mark.parametrize("command, arrays, words", NANS, ids=[words[:40] for _, _, words in NANS])
def test_a_nan_is_explained(
    command: list[str], arrays: dict[str, npt.NDArray[Any]], words: str, evaluated: Evaluated, tmp_path: Path
) -> None:
    """By the first row that has one, and the file it comes from; or by what is missing. Exit status 0, as ever."""
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)

    ended = evaluated(*command, *(text for name in arrays for text in (f"--{name}", f"{name}.npy")))

    assert ended.status == 0
    assert ended.err.startswith(f"lossd eval: warning: {words}")
    assert ended.err.count("\n") == 1


def test_a_loss_that_cannot_be_negative_is_warned_of(evaluated: Evaluated, tmp_path: Path) -> None:
    """Also where every file looks right."""
    np.save(tmp_path / "weight.npy", -np.ones(CLASSES))

    found = arguments("nll", "input", "", tmp_path, FORMS["log_probabilities"])
    said = evaluated(*found, "--weight", "weight.npy", "--reduction", "sum").err

    assert said.startswith("lossd eval: warning: the loss is negative, which nll of log-probabilities is not")


QUIET: dict[str, tuple[list[str], npt.NDArray[Any]]] = {
    "zeros as logits": (["entropy", "--kind", "logits"], np.zeros((3, 4))),
    "one-hot rows": (["entropy"], np.eye(4)),
    "padding": (["entropy"], np.vstack([FORMS["probabilities"], np.zeros((3, CLASSES))])),
    "float16": (["entropy"], FORMS["probabilities"].astype(np.float16)),
    "many classes in float16": (["entropy"], np.random.default_rng(0).dirichlet(np.ones(5000), 3).astype(np.float16)),
    "impossible classes": (["nll"], np.where(np.eye(CLASSES)[LABELS] == 1, 0.0, -np.inf)),
    "one row": (["entropy"], FORMS["probabilities"][0]),
    "classes in the middle": (["entropy"], np.moveaxis(FORMS["probabilities"].reshape(4, 10, CLASSES), 2, 1)),
    "classes first": (["entropy", "--dim", "0"], FORMS["probabilities"].T),
    "one number": (["entropy"], np.ones(1)),
}


@pytest.mark.parametrize("name", QUIET)
def test_what_is_right_is_not_warned_of(name: str, evaluated: Evaluated, tmp_path: Path) -> None:
    """Rounding, padding, certainty, any class dimension."""
    command, array = QUIET[name]

    ended = evaluated(*arguments(command[0], "input", "", tmp_path, array), *command[1:])

    assert (ended.status, ended.err) == (0, "")


def test_a_large_block_is_seen_in_a_sample() -> None:
    """Evenly spaced rows, the first and the last among them; all numbers of each."""
    block = np.full((1 << 16, 4), 0.25, np.float32)
    block[-1] = [7, 0, 0, 0]
    seen = NumberForm(1)

    seen.add(block)

    assert block.size > SAMPLE
    assert (seen.least, seen.greatest, seen.greatest_sum) == (0, 7, 7)
