"""Values that are found in the pass: the sentence names them, and nobody else pays."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest

from lossd_server.errors import ServerError
from lossd_server.evaluate import evaluate
from lossd_server.job import Answer, Job
from tests.losses.jobs import answer, bce, counts, cross_entropy, refusal
from tests.losses.reference import Reference

NAN = float("nan")


@pytest.mark.parametrize(
    "target, sentence",
    [
        ([0, 1, 5, 0, 0, -7], "target[2] = 5 is outside [0, 5)"),
        ([0, 1, 2, 0, 0, -7], "target[5] = -7 is outside [0, 5)"),
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


def test_a_refused_job_costs_its_neighbours_nothing() -> None:
    """Each answer stands at its job's place; one pass takes what is left."""
    backend = Reference()
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
