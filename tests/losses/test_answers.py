"""Answers of every formula: losses, denominators, gradients and by-products, on the CPU backend."""

from __future__ import annotations

from collections.abc import Callable
from math import isnan, log
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from lossd.v1 import tensor_pb2 as pb
from lossd_server.engine.evaluate import evaluate
from lossd_server.jobs.job import Answer
from tests.losses.checked import check
from tests.losses.jobs import Recording, answer, close, summary
from tests.losses.messages import tensor, zeros
from tests.losses.requests import (
    F64,
    I64,
    activation,
    cross_entropy,
    distribution,
    entropy,
    kl_divergence,
    nll,
    rpc,
    self_information,
)

LOGITS, LOG_PROBABILITIES, PROBABILITIES, COUNTS = 1, 2, 3, 4
NONE, MEAN, SUM, BATCHMEAN = 1, 2, 3, 4
NAMES = {NONE: "none", MEAN: "mean", SUM: "sum", BATCHMEAN: "batchmean"}
RANDOM = np.random.default_rng(3)
X = RANDOM.normal(size=(4, 3, 2))
P, Q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (X, RANDOM.normal(size=X.shape)))
Y = np.array([[0, 1], [2, -100], [1, 1], [0, 2]])
WEIGHT = np.array([0.5, 2.0, 1.25])
ROW_WEIGHT = RANDOM.random(Y.shape)


def double(values: Any) -> pb.Tensor:
    return tensor(values, "float64")


def answered(request: Any) -> Answer:
    return answer(check(rpc(request), request))


@pytest.mark.parametrize("reduction", [NONE, MEAN, SUM])
def test_nll_is_pytorchs(reduction: int) -> None:
    """Weighted by class, with an ignored row, in N dimensions; the gradient has one entry a row."""
    u = torch.tensor(X, requires_grad=True)
    expected = functional.nll_loss(u, torch.tensor(Y), torch.tensor(WEIGHT), reduction=NAMES[reduction])
    expected.sum().backward()  # type: ignore[no-untyped-call]

    fields = {"weight": double(WEIGHT), "reduction": reduction, "gradients": [1]}
    result = answered(nll(input=double(X), target=tensor(Y, "int64"), **fields))

    assert u.grad is not None
    close(result.loss, expected.detach(), rtol=1e-14)
    close(result.input_gradient, u.grad.flatten(), rtol=1e-14)
    assert (summary(result).weight_sum, summary(result).count) == (WEIGHT[Y[Y >= 0]].sum(), 7)


@pytest.mark.filterwarnings("ignore:reduction. 'mean':UserWarning")
@pytest.mark.parametrize("reduction", [NONE, MEAN, SUM, BATCHMEAN])
@pytest.mark.parametrize("log_target", [False, True])
def test_kl_divergence_is_pytorchs(reduction: int, log_target: bool) -> None:
    """Mean over elements, batchmean over dimension 0; gradients of both sides."""
    u = torch.tensor(np.log(Q), requires_grad=True)
    t = torch.tensor(np.log(P) if log_target else P, requires_grad=True)
    expected = functional.kl_div(u, t, reduction=NAMES[reduction], log_target=log_target)
    expected.sum().backward()  # type: ignore[no-untyped-call]

    kind = LOG_PROBABILITIES if log_target else PROBABILITIES
    sides = {"input": double(np.log(Q)), "target": double(t.detach().numpy()), "target_kind": kind}
    result = answered(kl_divergence(**sides, reduction=reduction, gradients=[1, 2]))

    assert u.grad is not None
    assert t.grad is not None
    close(result.loss, expected.detach(), rtol=1e-12)
    close(result.input_gradient, u.grad.flatten(), rtol=1e-12)
    close(result.target_gradient, t.grad.flatten(), rtol=1e-12)
    assert (summary(result).weight_sum, summary(result).count) == (24.0, 24)


@pytest.mark.parametrize("reduction", [NONE, MEAN, SUM, BATCHMEAN])
def test_a_divergence_by_row_reduces_as_one_by_element_does(reduction: int) -> None:
    """From logits or counts, in bits; its rows' sums are added, and its elements come back for NONE."""
    counts = np.arange(1.0, 25.0).reshape(X.shape)
    share = counts / counts.sum(1, keepdims=True)
    options = {"reduction": reduction, "base": 2.0, "gradients": [1]}
    rows = answered(kl_divergence(input=double(X), target=double(counts), kind=LOGITS, target_kind=COUNTS, **options))
    plain = answered(kl_divergence(input=double(P), target=double(share), kind=PROBABILITIES, **options))

    close(rows.loss, plain.loss, rtol=1e-13)
    close(summary(rows).loss_sum, summary(plain).loss_sum, rtol=1e-13)
    assert (summary(rows).weight_sum, summary(rows).count) == (24.0, 24)
    assert rows.loss.shape == (X.shape if reduction == NONE else ())


def test_batchmean_of_nothing_is_nan_or_zero() -> None:
    """As PyTorch, unless zero is asked for; items without elements add up to 0."""
    nothing = {"input": zeros(0, 3), "target": zeros(0, 3), "reduction": BATCHMEAN}
    hollow = {"input": zeros(3, 0), "target": zeros(3, 0), "reduction": BATCHMEAN}

    assert isnan(answered(kl_divergence(**nothing)).loss)
    assert answered(kl_divergence(**nothing, empty_mean=2)).loss == 0.0
    assert answered(kl_divergence(**hollow)).loss == 0.0


@pytest.mark.parametrize("kind, of", [(LOG_PROBABILITIES, np.log(P)), (PROBABILITIES, P), (COUNTS, 7 * P)])
@pytest.mark.parametrize("by_index", [True, False])
def test_cross_entropy_is_the_same_from_every_kind_of_input(kind: int, of: Any, by_index: bool) -> None:
    """Weights, smoothing, ignored rows, row weights: each as from logits, in loss and denominator."""
    target = tensor(Y, "int64") if by_index else double(Q)
    fields: dict[str, Any] = {"weight": double(WEIGHT), "row_weight": double(ROW_WEIGHT), "label_smoothing": 0.1}
    if not by_index:
        fields["gradients"] = [2, 3]
    logits = answered(cross_entropy(input=double(X), target=target, **fields))
    other = answered(cross_entropy(input=double(of), target=target, kind=kind, **fields))

    close(other.loss, logits.loss, rtol=1e-13)
    assert summary(other).weight_sum == summary(logits).weight_sum
    if not by_index:
        close(other.target_gradient, logits.target_gradient, rtol=1e-12)
        close(other.weight_gradient, logits.weight_gradient, rtol=1e-12)


def test_row_weights_weigh_losses_and_the_denominator() -> None:
    """Σ r·w[y] over kept rows for class indices, Σ r otherwise."""
    kept = Y != -100
    fields = {"input": double(X), "row_weight": double(ROW_WEIGHT)}
    index = answered(cross_entropy(target=tensor(Y, "int64"), weight=double(WEIGHT), **fields))
    spread = answered(distribution(target=double(Q), **fields))
    own = answered(entropy(kind=LOGITS, **fields))
    plain = answered(entropy(kind=LOGITS, input=double(X), reduction=NONE))

    close(summary(index).weight_sum, (ROW_WEIGHT[kept] * WEIGHT[Y[kept]]).sum(), rtol=1e-14)
    close(summary(spread).weight_sum, ROW_WEIGHT.sum(), rtol=1e-14)
    assert summary(spread).count == 8
    close(own.loss, (ROW_WEIGHT * plain.loss).sum() / ROW_WEIGHT.sum(), rtol=1e-14)


def test_row_weights_that_sum_to_zero_give_nan() -> None:
    """There is nothing to divide by."""
    result = answered(entropy(row_weight=zeros(8), kind=LOGITS, gradients=[1]))

    assert isnan(result.loss)
    assert result.input_gradient is not None
    assert np.isnan(result.input_gradient).all()


def test_outputs_have_their_dtypes() -> None:
    """Measures in the loss's, in nats whatever the base; classes int64; hits of one byte, none where ignored."""
    fields = {"input": tensor(X), "target": tensor(Y, "int64"), "softcap": 2.0, "base": 2.0}
    result = answered(cross_entropy(**fields, outputs=[1, 2, 3, 4]))
    capped = torch.tensor(2 * np.tanh(X.astype(np.float32).astype(np.float64) / 2)).movedim(1, -1).reshape(8, 3)

    assert {name: values.dtype.name for name, values in result.outputs.items()} == {
        "lse": "float32",
        "entropy": "float32",
        "argmax": "int64",
        "correct": "uint8",
    }
    close(result.outputs["lse"], capped.logsumexp(1), rtol=1e-6)
    np.testing.assert_array_equal(result.outputs["argmax"], capped.argmax(1))
    np.testing.assert_array_equal(result.outputs["correct"], capped.argmax(1).numpy() == Y.reshape(-1))


def test_only_the_outputs_that_were_asked_for_come_back() -> None:
    """A backend may compute more."""
    assert set(answered(cross_entropy(outputs=[3])).outputs) == {"argmax"}
    assert answered(cross_entropy()).outputs == {}


@pytest.mark.parametrize("dtype, storage", [(F64, "<f8"), (22, "<f4"), (20, "<u2"), (21, "<u2"), (16, "<f4")])
def test_a_class_weights_gradient_is_scaled_and_rounded_once(dtype: int, storage: str) -> None:
    """By denominator, upstream gradient and base; to the weight's dtype."""
    weight = zeros(3, dtype=dtype)
    options = {"grad_output": double(-3.0), "base": 2.0, "gradients": [3]}
    result = answered(distribution(input=double(X), target=double(Q), weight=weight, **options))
    truth = -3.0 / log(2) / 8 * (Q * -np.log(P)).sum((0, 2))

    assert result.weight_gradient is not None
    assert result.weight_gradient.dtype == np.dtype(storage)
    if storage != "<u2":
        close(result.weight_gradient, truth, rtol=1e-6)


def test_an_activation_is_its_values() -> None:
    """In the input's dtype and shape; no summary. Its gradient is the upstream one times the Jacobian."""
    for function, truth in enumerate((torch.softmax, torch.log_softmax), 1):
        x = torch.tensor(X, requires_grad=True)
        values = truth(x, 2)
        values.backward(torch.tensor(Q))  # type: ignore[no-untyped-call]
        request = activation(input=double(X), function=function, dim=-1, grad_output=double(Q), gradients=[1])
        result = answered(request)

        assert x.grad is not None
        assert result.summary is None
        close(result.loss.reshape(X.shape), values.detach(), rtol=1e-13)
        close(result.input_gradient, x.grad.flatten(), rtol=1e-12, atol=1e-16)
    assert answered(activation(input=zeros(4, dtype=pb.DATA_TYPE_BFLOAT16), function=3)).loss.tolist() == [0x3F00] * 4


def test_self_information_is_in_the_bases_unit() -> None:
    """−log₂ of a quarter is 2, and its derivative −1/(p·ln 2)."""
    result = answered(self_information(input=double([0.25, 0.5]), base=2.0, gradients=[1]))

    close(result.loss, [2.0, 1.0], rtol=1e-15)
    close(result.input_gradient, [-4 / log(2), -2 / log(2)], rtol=1e-15)


@pytest.mark.parametrize(
    "make, fields, mean",
    [
        (distribution, {"target": zeros(0, 3), "gradients": [1, 2, 3], "outputs": [1, 3]}, None),
        (cross_entropy, {"target": zeros(0, dtype=I64), "outputs": [1, 2, 3, 4]}, None),
        (cross_entropy, {"target": zeros(0, dtype=I64), "kind": COUNTS}, None),
        (nll, {"target": zeros(0, dtype=I64), "gradients": [1]}, None),
        (kl_divergence, {"target": zeros(0, 3), "kind": LOGITS, "gradients": [1, 2]}, None),
        (kl_divergence, {"target": zeros(0, 3), "target_kind": COUNTS}, None),
        (self_information, {"reduction": MEAN}, None),
        (self_information, {}, (0, 3)),
        (kl_divergence, {"target": zeros(0, 3), "kind": LOGITS, "reduction": NONE}, (0, 3)),
        (activation, {"gradients": [1]}, None),
    ],
)
def test_empty_inputs_never_reach_the_backend(make: Callable[..., Any], fields: Any, mean: Any) -> None:
    """Mean NaN, none empty, gradients empty; a class weight's is zeros."""
    request = make(input=zeros(0, 3), **fields)
    backend = Recording()
    (result,) = evaluate(backend, [check(rpc(request), request)])

    assert isinstance(result, Answer)
    assert backend.launched == []
    if make is activation:
        assert result.loss.size == 0
    elif mean is None:
        assert isnan(result.loss)
    else:
        assert result.loss.shape == mean
    if 3 in request.gradients:
        assert result.weight_gradient is not None
        assert result.weight_gradient.tolist() == [0.0] * 3
    assert all(values.size == 0 for values in result.outputs.values())


def test_rows_of_no_class_have_outputs() -> None:
    """The log of an empty sum, no entropy, no greatest."""
    result = answered(distribution(input=zeros(2, 0), target=zeros(2, 0), outputs=[1, 2, 3]))

    assert [values.tolist() for values in result.outputs.values()] == [[float("-inf")] * 2, [0.0] * 2, [-1] * 2]


@pytest.mark.parametrize("make, kind", [(cross_entropy, COUNTS), (kl_divergence, COUNTS)])
def test_rows_of_counts_of_no_class_are_refused(make: Any, kind: int) -> None:
    """They sum to 0."""
    target = zeros(2, dtype=I64) if make is cross_entropy else zeros(2, 0)
    request = make(input=zeros(2, 0), target=target, kind=kind)
    if make is cross_entropy:
        request.target.CopyFrom(tensor([-100, -100], "int64"))
    (result,) = evaluate(Recording(), [check(rpc(request), request)])

    assert "the counts of input's row[0] sum to 0" in str(result)
