"""Where people go wrong, the sentence says what they meant to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lossd_server.errors import ServerError
from tests.losses.checked import check, is_plain
from tests.losses.jobs import bce, refusal
from tests.losses.jobs import cross_entropy as job
from tests.losses.messages import zeros
from tests.losses.requests import F64, I64, cross_entropy, kl_divergence, nll, rpc

TOKENS = zeros(2, 5, 7)  # (batch, tokens, classes)


def refused(request: Any) -> str:
    with pytest.raises(ServerError) as caught:
        check(rpc(request), request)
    assert is_plain(caught.value)
    return caught.value.message


def test_one_hot_integers_are_told_from_class_indices() -> None:
    """Integers of the input's shape: a distribution would be of a float dtype."""
    sentence = refused(cross_entropy(target=zeros(8, 16, dtype=I64)))

    assert sentence.startswith("target has shape [8, 16], but must have shape [8]: one class index for each row")
    assert sentence.endswith(
        "for one-hot targets pass the class indices, or a float dtype to have them taken for distributions"
    )


def test_one_hot_targets_of_nll_become_class_indices() -> None:
    """NLL takes no distributions."""
    assert refused(nll(target=zeros(8, 16, dtype=I64))).endswith("for one-hot targets pass the class indices")


def test_other_shapes_are_not_called_one_hot() -> None:
    """A batch of another size is only that."""
    assert "one-hot" not in refused(cross_entropy(target=zeros(7, dtype=I64)))


@pytest.mark.parametrize("make", [cross_entropy, nll])
def test_classes_in_the_last_dimension_are_told_where_they_belong(make: Any) -> None:
    """Logits (batch, tokens, classes): which dimension is taken, and both ways out."""
    assert refused(make(input=TOKENS, target=zeros(2, 5, dtype=I64))) == (
        "target has shape [2, 5], but must have shape [2, 7]: one class index for each row of the input of shape "
        "[2, 5, 7], whose classes are dimension 1; where they are its last one, transpose the input to [2, 7, 5], or "
        "reshape it to [10, 7] and the target to [10]"
    )


def test_images_with_classes_last_are_told_their_transposed_shape() -> None:
    """(N, H, W, C) becomes (N, C, H, W)."""
    sentence = refused(cross_entropy(input=zeros(2, 3, 4, 7), target=zeros(2, 3, 4, dtype=I64)))

    assert "transpose the input to [2, 7, 3, 4], or reshape it to [24, 7] and the target to [24]" in sentence


@pytest.mark.parametrize("shapes", [((8, 16), (8,)), ((16,), ()), ((2, 5, 7), (2, 5)), ((2, 7, 5), (2, 5))])
def test_float_labels_are_told_that_indices_are_integers(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    """One number a row in a float dtype: labels that were read as float."""
    sentence = refused(cross_entropy(input=zeros(*shapes[0]), target=zeros(*shapes[1], dtype=F64)))

    assert sentence.endswith(
        "a float64 target is taken for a distribution; class indices must have an integer dtype, such as int64"
    )


def test_a_distribution_of_another_shape_is_not_called_labels() -> None:
    """It is only of the wrong shape."""
    sentence = refused(cross_entropy(target=zeros(8, 15)))

    assert (
        sentence
        == "target has shape [8, 15], but must have shape [8, 16]: that of the input, a distribution for each row"
    )


@pytest.mark.parametrize("logit", [2.5, -0.5, float("inf")])
def test_logits_given_to_bce_are_told_of_bce_with_logits(logit: float) -> None:
    """An input outside [0, 1]."""
    sentence = refusal(bce([[0.5, logit]], [[0, 1]])).message

    assert sentence == f"input[0, 1] = {logit} is outside [0, 1]: bce takes probabilities, bce_with_logits takes logits"


@pytest.mark.parametrize("values", [([[0.5, float("nan")]], [[0, 1]]), ([[0.5, 0.5]], [[0, 2]])])
def test_nan_and_targets_are_not_called_logits(values: Any) -> None:
    """What is wrong with them is something else."""
    assert refusal(bce(*values)).message.endswith("is outside [0, 1]")


def test_negative_labels_are_told_of_ignore_index() -> None:
    """−1 for padding is the usual case."""
    assert refusal(job(np.zeros((2, 3)), [0, -1])).message == (
        "target[1] = -1 is outside [0, 3); to leave such rows out give ignore_index = -1"
    )


def test_the_reduction_named_is_the_one_asked_for() -> None:
    """Not what it is computed as."""
    sentence = refused(kl_divergence(grad_output=zeros(8), reduction=4))

    assert sentence == "grad_output has shape [8], but must have shape []: that of the loss with reduction batchmean"
