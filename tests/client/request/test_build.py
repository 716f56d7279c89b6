"""Methods, tensors and options as messages."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

import lossd
from lossd import results
from lossd.methods import Methods
from lossd.request.build import METHODS, build
from lossd.v1 import loss_pb2, service_pb2

X = np.zeros((2, 3), np.float32)
Y = np.zeros(2, np.int64)
REDUCTIONS = "'none', 'mean', 'sum' or 'batchmean'"
GRADS = "True, False, 'input', 'target' or 'weight'"
OUTPUTS = "'lse', 'entropy', 'argmax' or 'correct'"


def request(method: str, *operands: Any, **given: Any) -> Any:
    return build(method, *operands, **given).request


def refused(method: str, *operands: Any, **given: Any) -> lossd.InvalidArgument:
    with pytest.raises(lossd.InvalidArgument) as caught:
        build(method, *operands, **given)
    return caught.value


def test_methods_and_rpcs_are_the_same_set() -> None:
    """Every unary RPC but GetServerInfo has a method, and every method is a verb of both clients."""
    rpcs = {method.name for method in service_pb2.DESCRIPTOR.services_by_name["LossService"].methods}

    assert {method.rpc for method in METHODS.values()} == rpcs - {"Stream", "GetServerInfo"}
    assert {name for name in vars(Methods) if not name.startswith("_")} == {*METHODS, "map"}


def test_an_absent_option_is_absent_on_the_wire() -> None:
    """Nothing and None leave only the tensors."""
    bare = request("cross_entropy", X, Y)

    assert request("cross_entropy", X, Y, weight=None, ignore_index=None, reduction=None, grad=None) == bare
    assert {field.name for field, _ in bare.ListFields()} == {"input", "target"}


def test_every_option_of_cross_entropy_is_on_the_wire() -> None:
    """Names are the contract's, strings are its enum values."""
    sent = request(
        "cross_entropy",
        X,
        Y,
        weight=[1.0, 2.0, 3.0],
        row_weight=np.ones(2, np.float32),
        reduction="none",
        grad=("input", "weight", "input"),
        grad_output=np.ones(2, np.float32),
        normalizer=np.float64(2),
        empty_mean="zero",
        outputs=["lse", "correct"],
        kind="log_probabilities",
        target_kind="indices",
        base=2,
        ignore_index=0,
        label_smoothing=0.1,
        z_loss=1e-4,
        softcap=30.0,
    )

    assert list(sent.weight.shape) == [3]
    assert list(sent.row_weight.shape) == list(sent.grad_output.shape) == [2]
    assert sent.reduction == loss_pb2.REDUCTION_NONE
    assert list(sent.gradients) == [loss_pb2.GRADIENT_INPUT, loss_pb2.GRADIENT_WEIGHT]
    assert (sent.normalizer, sent.base, sent.label_smoothing, sent.z_loss, sent.softcap) == (2, 2, 0.1, 1e-4, 30)
    assert sent.empty_mean == loss_pb2.EMPTY_MEAN_ZERO
    assert list(sent.outputs) == [loss_pb2.OUTPUT_LSE, loss_pb2.OUTPUT_CORRECT]
    assert (sent.kind, sent.target_kind) == (loss_pb2.KIND_LOG_PROBABILITIES, loss_pb2.KIND_INDICES)
    assert sent.HasField("ignore_index")
    assert sent.ignore_index == 0


@pytest.mark.parametrize("grad, numbers", [(True, [1]), (False, []), ("target", [2]), (["target", "input"], [2, 1])])
def test_grad_is_a_flag_or_names(grad: Any, numbers: list[int]) -> None:
    """True is the input's gradient."""
    assert list(request("bce", X, X, grad=grad).gradients) == numbers


@pytest.mark.parametrize(
    "method, function",
    [("softmax", 1), ("log_softmax", 2), ("sigmoid", 3), ("log_sigmoid", 4)],
)
def test_activations_are_one_rpc(method: str, function: int) -> None:
    """Each says which function it is."""
    assert request(method, X).function == function


@pytest.mark.parametrize("method", ["softmax", "sigmoid"])
def test_activations_take_no_reduction(method: str) -> None:
    """There is nothing to reduce."""
    with pytest.raises(TypeError, match=rf"{method}\(\) got an unexpected keyword argument 'reduction'"):
        build(method, X, reduction="mean")


@pytest.mark.parametrize(
    "method, given", [("entropy", {"weight": X}), ("nll", {"label_smoothing": 0.1}), ("bce", {"function": 1})]
)
def test_an_option_of_another_method_is_a_type_error(method: str, given: dict[str, Any]) -> None:
    """As for any Python function, and naming both."""
    with pytest.raises(TypeError, match=rf"{method}\(\) got an unexpected keyword argument '{next(iter(given))}'"):
        build(method, *[X] * len(METHODS[method].tensors), **given)


@pytest.mark.parametrize(
    "method, given, meant",
    [
        ("cross_entropy", "lable_smoothing", "label_smoothing"),
        ("cross_entropy", "weights", "weight"),
        ("bce", "Reduction", "reduction"),
        ("bce_with_logits", "pos_weights", "pos_weight"),
        ("kl_divergence", "log_targets", "log_target"),
        ("nll", "size_avg", "size_average"),
        ("entropy", "trasport", "transport"),
        ("softmax", "dims", "dim"),
    ],
)
def test_an_option_that_is_nearly_one_is_told(method: str, given: str, meant: str) -> None:
    """The nearest name among all that the method takes."""
    with pytest.raises(TypeError, match=rf"'{given}'; did you mean '{meant}'\?$"):
        build(method, *[X] * len(METHODS[method].tensors), **{given: 1})


def test_an_option_that_is_like_no_other_gets_no_suggestion() -> None:
    """Nothing is better than nonsense."""
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'xyz'$"):
        build("bce", X, X, xyz=1)


@pytest.mark.parametrize("operands", [(X,), (X, Y, Y)])
def test_the_number_of_tensors_is_checked(operands: tuple[Any, ...]) -> None:
    """Neither fewer nor more than the method has."""
    with pytest.raises(TypeError, match=r"takes 2 tensors \(input, target\)"):
        build("cross_entropy", *operands)


@pytest.mark.parametrize(
    "given, sentence",
    [
        ({"reduction": "avg"}, f"reduction must be {REDUCTIONS}, not 'avg'"),
        ({"reduction": "MEAN"}, f"reduction must be {REDUCTIONS}, not 'MEAN'; did you mean 'mean'?"),
        ({"kind": 3}, "kind must be 'logits', 'log_probabilities', 'probabilities' or 'counts', not 3"),
        ({"grad": "inputs"}, f"grad must be {GRADS}, not 'inputs'; did you mean 'input'?"),
        ({"grad": ["input", None]}, f"grad must be {GRADS}, not None"),
        ({"grad": 1}, f"grad must be {GRADS}, not 1"),
        ({"outputs": ["argmin"]}, f"outputs must be {OUTPUTS}, not 'argmin'; did you mean 'argmax'?"),
        ({"reduction": X}, f"reduction must be {REDUCTIONS}, not array([[0., 0., 0.], [0., 0., 0.]], dtype=float32)"),
        ({"label_smoothing": "0.1"}, "label_smoothing must be a number, not '0.1'"),
        ({"ignore_index": 1.0}, "ignore_index must be an integer, not 1.0"),
        ({"ignore_index": 2**63}, "ignore_index must fit 64 bits, not be 9223372036854775808"),
    ],
)
def test_an_unknown_value_names_its_option_and_the_known_ones(given: dict[str, Any], sentence: str) -> None:
    """InvalidArgument before anything is sent."""
    error = refused("cross_entropy", X, Y, **given)

    assert error.field == next(iter(given))
    assert str(error) == sentence


def test_a_long_value_is_cut_short() -> None:
    """The sentence is for reading: one line, whatever was given."""
    sentence = str(refused("bce", X, X, reduction=np.zeros((50, 50))))

    assert sentence.endswith("…")
    assert "\n" not in sentence
    assert len(sentence) < 200


def test_an_unknown_method_names_the_known_ones() -> None:
    """For callers that have it from data."""
    assert str(refused("mse", X, Y)).startswith("method must be 'entropy', 'cross_entropy', 'bce'")


def test_a_method_that_is_nearly_one_is_told() -> None:
    """As options are."""
    assert str(refused("crossentropy", X, Y)).endswith("not 'crossentropy'; did you mean 'cross_entropy'?")


def test_a_missing_tensor_is_named() -> None:
    """None is an absent option, not a tensor."""
    assert refused("bce", X, None).field == "target"


@pytest.mark.parametrize(
    "size_average, reduce",
    [(s, r) for s in (None, True, False) for r in (None, True, False) if (s, r) != (None, None)],
)
def test_the_legacy_pair_means_what_it_means_in_torch(size_average: bool | None, reduce: bool | None) -> None:
    """The same reduction as torch's own reading of it, with one warning that names it."""
    meant = torch.nn._reduction.legacy_get_string(size_average, reduce, emit_warning=False)

    with pytest.warns(UserWarning, match=f"say reduction='{meant}' instead") as caught:
        sent = request("bce", X, X, size_average=size_average, reduce=reduce)

    assert sent == request("bce", X, X, reduction=meant)
    assert [str(one.filename) for one in caught] == [__file__]


def test_the_legacy_pair_of_none_is_silent() -> None:
    """As in torch, whose signatures have None."""
    with warnings.catch_warnings(action="error"):
        sent = request("nll", X, Y, size_average=None, reduce=None, reduction="sum")

    assert sent == request("nll", X, Y, reduction="sum")


def test_log_target_is_a_target_kind() -> None:
    """True says log-probabilities, False nothing."""
    assert request("kl_divergence", X, X, log_target=True).target_kind == loss_pb2.KIND_LOG_PROBABILITIES
    assert request("kl_divergence", X, X, log_target=False) == request("kl_divergence", X, X)


def test_log_target_against_target_kind_is_refused() -> None:
    """Two options that say different things."""
    assert refused("kl_divergence", X, X, log_target=True, target_kind="counts").field == "log_target"


def test_gradients_are_the_kind_of_array_their_tensor_was() -> None:
    """torch for torch's, numpy for the rest; the loss is numpy's always."""
    call = build("bce", torch.zeros(2, 3, dtype=torch.bfloat16), X, grad=("input", "target"))
    half = {"dtype": 21, "shape": (2, 3), "data": bytes(12)}
    whole = {"dtype": 22, "shape": (2, 3), "data": bytes(24)}

    result = results.from_message(
        call, call.asked.response(loss={"dtype": 22, "data": bytes(4)}, input_gradient=half, target_gradient=whole)
    )

    assert result.grad.dtype == torch.bfloat16
    assert isinstance(result.grads["target"], np.ndarray)
    assert isinstance(result.loss, np.ndarray)
    assert result.loss.shape == ()


def test_results_have_what_was_asked_for() -> None:
    """Outputs by name, the summary and the timing in seconds."""
    call = build("cross_entropy", X, Y, outputs="argmax")
    result = results.from_message(
        call,
        call.asked.response(
            loss={"dtype": 23, "data": np.float64(1.5).tobytes()},
            outputs={"argmax": {"dtype": 6, "shape": (2,), "data": np.array([1, 2]).tobytes()}},
            summary={"loss_sum": 3.0, "weight_sum": 2.0, "count": 2},
            timing={"queue_ns": 10**9, "compute_ns": 5 * 10**8, "batch_requests": 3, "batch_rows": 4},
        ),
        total_s=2.0,
    )

    assert float(result) == 1.5
    assert result.grad is None
    assert result.outputs["argmax"].tolist() == [1, 2]
    assert (result.summary.loss_sum, result.summary.weight_sum, result.summary.count) == (3.0, 2.0, 2)
    assert result.timing == type(result.timing)(1.0, 0.5, 3, 4, 2.0)
