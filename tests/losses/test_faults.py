"""Values that are found in the pass: the sentence names them, and nobody else pays."""

from __future__ import annotations

from math import isnan
from typing import Any

import numpy as np
import pytest

from lossd.v1 import service_pb2 as service
from lossd_server.engine.evaluate import evaluate
from lossd_server.errors import ServerError
from lossd_server.jobs.job import Answer, Job
from tests.losses.checked import check
from tests.losses.jobs import Recording, answer, bce, counts, cross_entropy, refusal
from tests.losses.messages import tensor, zeros

NAN = float("nan")


@pytest.mark.parametrize(
    "target, sentence",
    [
        ([0, 1, 5, 0, 0, -7], "target[2] = 5 is outside [0, 5)"),
        ([0, 1, 2, 0, 0, -7], "target[5] = -7 is outside [0, 5); to leave such rows out give ignore_index = -7"),
    ],
)
def test_a_class_out_of_range_is_named_with_its_index(target: list[int], sentence: str) -> None:
    """The first one, and the ignored index is none."""
    refused = refusal(cross_entropy(target=target))

    assert refused.message == sentence
    assert (refused.field, refused.reason) == ("target", "CLASS_OUT_OF_RANGE")
    assert refused.metadata["bound"] == "[0, 5)"


def test_a_class_is_named_in_as_many_dimensions_as_the_target_has() -> None:
    """Rows of (N, d1) and a scalar."""
    target = np.zeros((2, 4), np.int64)
    target[1, 3] = 32000

    assert refusal(cross_entropy(np.zeros((2, 3, 4)), target)).message == "target[1, 3] = 32000 is outside [0, 3)"
    assert refusal(cross_entropy(np.zeros(3), np.int64(3))).message == "target = 3 is outside [0, 3)"
    assert refusal(cross_entropy(np.zeros(3), [3])).message == "target[0] = 3 is outside [0, 3)"


def test_no_class_at_all_takes_ignored_targets_only() -> None:
    """C = 0: there is nothing to index."""
    ignored = answer(cross_entropy(np.zeros((2, 0)), [-100, -100]))

    assert refusal(cross_entropy(np.zeros((2, 0)), [-100, 0])).message == "target[1] = 0 is outside [0, 0)"
    assert isnan(ignored.loss)


@pytest.mark.parametrize(
    "job, field, reason, sentence",
    [
        (bce([[0.5, 0.5], [0.5, 1.5]], np.zeros((2, 2))), "input", "NOT_A_PROBABILITY", "input[1, 1] = 1.5 is outside"),
        (bce(0.5, NAN), "target", "NOT_A_PROBABILITY", "target = nan is outside [0, 1]"),
        (counts([[1, 2], [3, -4]]), "input", "NEGATIVE_COUNT", "input[1, 1] = -4.0 is outside [0, inf)"),
        (counts([[1, 2], [0, 0]]), "input", "EMPTY_COUNTS", "the counts of input's row[1] sum to 0"),
        (counts([0, 0]), "input", "EMPTY_COUNTS", "the counts of input's row sum to 0"),
        (counts(np.empty((2, 0))), "input", "EMPTY_COUNTS", "the counts of input's row[0] sum to 0"),
    ],
)
def test_a_value_that_a_kernel_found_is_named(job: Job, field: str, reason: str, sentence: str) -> None:
    """Field, index, value and bound, from a flag and a flat index."""
    refused = refusal(job)

    assert (refused.field, refused.reason) == (field, reason)
    assert sentence in refused.message


@pytest.mark.parametrize("place, where", [((1, 2, 1), "row[1, 1]"), ((0, 0, 0), "row[0, 0]")])
def test_counts_of_every_loss_are_named(place: tuple[int, int, int], where: str) -> None:
    """Cross-entropy's and divergences' inputs; a row is named by the rows' own dimensions."""
    negative, empty = np.ones((2, 3, 2)), np.ones((2, 3, 2))
    negative[place] = -4
    empty[place[0], :, place[2]] = 0
    for make, target in ((cross_entropy_of_counts, np.zeros((2, 2))), (divergence_of_counts, np.ones((2, 3, 2)))):
        indices = ", ".join(map(str, place))
        assert refusal(make(negative, target)).message == f"input[{indices}] = -4.0 is outside [0, inf)"
        assert f"the counts of input's {where} sum to 0" in refusal(make(empty, target)).message


def cross_entropy_of_counts(counted: Any, target: Any) -> Job:
    request = service.CrossEntropyRequest(input=tensor(counted), target=tensor(target, "int64"), kind=4)  # type: ignore[arg-type]
    return check("CrossEntropy", request)


def divergence_of_counts(counted: Any, target: Any) -> Job:
    request = service.KLDivergenceRequest(input=tensor(counted), target=tensor(target), kind=4)  # type: ignore[arg-type]
    return check("KLDivergence", request)


@pytest.mark.parametrize("label", [3, -1])
def test_nll_and_other_kinds_hold_classes_to_their_range(label: int) -> None:
    """As cross-entropy of logits does."""
    target = tensor([0, label], "int64")
    for job in (
        check("NLL", service.NLLRequest(input=zeros(2, 3), target=target)),
        check("CrossEntropy", service.CrossEntropyRequest(input=zeros(2, 3), target=target, kind=2)),  # type: ignore[arg-type]
    ):
        assert refusal(job).message.startswith(f"target[1] = {label} is outside [0, 3)")


def test_a_refused_job_costs_its_neighbours_nothing() -> None:
    """Each answer stands at its job's place; one pass takes what is left."""
    backend = Recording()
    jobs = [
        cross_entropy(),
        cross_entropy(target=np.full(6, 9)),
        bce([2.0], [1.0]),
        cross_entropy(np.zeros((0, 3)), np.zeros(0)),
        counts([[2, 3, 4]], base=2.0),
    ]
    results = evaluate(backend, jobs)

    kinds = [isinstance(result, ServerError) for result in results]
    assert kinds == [False, True, True, False, False]
    assert [launch.job for launch in backend.launched] == [jobs[0], jobs[2], jobs[4]]
    assert isinstance(results[0], Answer)
    assert results[0].loss == answer(jobs[0]).loss
