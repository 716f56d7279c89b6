"""Denominators, scales and sums: what the host does round the kernels, on the CPU backend."""

from __future__ import annotations

from math import fsum, isnan, log
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from lossd.v1 import service_pb2 as service
from lossd.v1 import tensor_pb2 as pb
from lossd_server.engine.evaluate import evaluate
from lossd_server.jobs.job import Answer
from lossd_server.jobs.reduction import denominator_of, weights_of
from tests.losses.checked import check
from tests.losses.jobs import LOGITS, TARGET, Recording, answer, bce, cross_entropy, summary
from tests.losses.messages import tensor, zeros

NONE, MEAN, SUM = 1, 2, 3
NAN = float("nan")
WEIGHT = np.array([0.5, 2.0, 1.25, 3.0, 0.0])


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("reduction, name", [(NONE, "none"), (MEAN, "mean"), (SUM, "sum")])
def test_reductions_are_pytorchs(weight: Any, reduction: int, name: str) -> None:
    """Loss and gradient, with class weights in the denominator and an ignored row."""
    x = torch.tensor(LOGITS, requires_grad=True)
    w = None if weight is None else torch.tensor(weight)
    expected = functional.cross_entropy(x, torch.tensor(TARGET), weight=w, reduction=name)
    expected.sum().backward()  # type: ignore[no-untyped-call]

    result = answer(cross_entropy(weight=weight, reduction=reduction))

    assert x.grad is not None
    assert result.input_gradient is not None
    np.testing.assert_allclose(result.loss, expected.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(result.input_gradient, x.grad.numpy().reshape(-1), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("reduction", [NONE, MEAN, SUM])
def test_the_summary_is_the_same_whatever_the_reduction(reduction: int) -> None:
    """The sum, the denominator that mean would use, the rows that are kept."""
    made = summary(answer(cross_entropy(weight=WEIGHT, reduction=reduction)))

    mean = answer(cross_entropy(weight=WEIGHT))
    assert made == mean.summary
    assert (made.weight_sum, made.count) == (0.5 + 0.0 + 1.25 + 2.0 + 1.25, 5)
    assert made.loss_sum / made.weight_sum == mean.loss


def test_base_divides_loss_gradient_and_summary() -> None:
    """Bits are nats over ln 2."""
    nats, bits = answer(cross_entropy()), answer(cross_entropy(base=2.0))
    rows = answer(cross_entropy(base=2.0, reduction=NONE))

    assert nats.input_gradient is not None
    assert bits.input_gradient is not None
    np.testing.assert_allclose(bits.loss, nats.loss / log(2), rtol=1e-15)
    np.testing.assert_allclose(bits.input_gradient, nats.input_gradient / log(2), rtol=1e-14)
    np.testing.assert_allclose(summary(bits).loss_sum, summary(nats).loss_sum / log(2), rtol=1e-15)
    np.testing.assert_allclose(rows.loss.sum(), summary(bits).loss_sum, rtol=1e-15)


def test_a_normalizer_replaces_the_denominator() -> None:
    """Parts of a mean that share one add up to the whole, in loss and gradient; one that keeps nothing adds 0."""
    whole = answer(cross_entropy())
    parts = [answer(cross_entropy(LOGITS[a:b], TARGET[a:b], normalizer=5.0)) for a, b in ((0, 3), (3, 4), (4, 6))]

    assert whole.input_gradient is not None
    np.testing.assert_allclose(sum(part.loss for part in parts), whole.loss, rtol=1e-15)
    np.testing.assert_allclose(
        np.concatenate([part.input_gradient for part in parts if part.input_gradient is not None]),
        whole.input_gradient,
        rtol=1e-15,
    )
    assert parts[1].loss == 0.0


def test_an_upstream_gradient_scales_the_gradient_and_not_the_loss() -> None:
    """grad_output, for a scalar loss and by row."""
    plain, scaled = answer(cross_entropy()), answer(cross_entropy(grad_output=tensor(-3.0)))
    rows = answer(cross_entropy(reduction=NONE, grad_output=tensor([1.0, 2, 3, 4, 5, 6])))

    assert plain.input_gradient is not None
    assert scaled.input_gradient is not None
    assert rows.input_gradient is not None
    assert scaled.loss == plain.loss
    np.testing.assert_allclose(scaled.input_gradient, -3.0 * plain.input_gradient, rtol=1e-15)
    by_row = plain.input_gradient.reshape(6, 5) * np.arange(1, 7)[:, None] * 5
    np.testing.assert_allclose(rows.input_gradient.reshape(6, 5), by_row, rtol=1e-14)


@pytest.mark.parametrize("empty_mean, expected", [(0, NAN), (1, NAN), (2, 0.0)])
def test_a_mean_over_no_kept_row_is_nan_or_zero_and_its_gradient_zero(empty_mean: int, expected: float) -> None:
    """As PyTorch, unless zero is asked for."""
    result = answer(cross_entropy(target=np.full(6, -100), empty_mean=empty_mean))

    assert result.input_gradient is not None
    np.testing.assert_equal(result.loss.item(), expected)
    assert not result.input_gradient.any()
    assert (summary(result).loss_sum, summary(result).weight_sum, summary(result).count) == (0.0, 0.0, 0)


def test_weights_that_sum_to_zero_give_nan_and_nan() -> None:
    """Rows are kept, and there is nothing to divide by."""
    result = answer(cross_entropy(weight=np.zeros(5)))

    assert result.input_gradient is not None
    assert isnan(result.loss)
    assert np.isnan(result.input_gradient.reshape(6, 5)[TARGET != -100]).all()
    assert summary(result).count == 5


@pytest.mark.parametrize(
    "shape, target", [((0, 3), (0,)), ((2, 3, 0), (2, 0)), ((0, 3, 4), (0, 4)), ((3, 0), (3, 0)), ((0,), (0,))]
)
@pytest.mark.parametrize("reduction, expected", [(MEAN, NAN), (SUM, 0.0), (NONE, None)])
def test_an_empty_input_never_reaches_the_backend(
    shape: tuple[int, ...], target: tuple[int, ...], reduction: int, expected: float | None
) -> None:
    """Mean NaN, sum 0, none zeros of the rows' shape: as PyTorch."""
    floats = target == shape
    dtype = pb.DATA_TYPE_FLOAT32 if floats else pb.DATA_TYPE_INT64
    request = service.CrossEntropyRequest(
        input=zeros(*shape),
        target=zeros(*target, dtype=dtype),
        reduction=reduction,  # type: ignore[arg-type]
        gradients=[1, 2] if floats else [1],  # type: ignore[list-item]
    )
    name = {NONE: "none", MEAN: "mean", SUM: "sum"}[reduction]
    truth = functional.cross_entropy(
        torch.zeros(shape), torch.zeros(target, dtype=torch.float32 if floats else torch.int64), reduction=name
    )
    backend = Recording()
    (result,) = evaluate(backend, [check("CrossEntropy", request)])

    assert isinstance(result, Answer)
    assert backend.launched == []
    assert result.input_gradient is not None
    assert result.input_gradient.shape == (0,)
    np.testing.assert_array_equal(result.loss, truth.numpy())
    assert expected is None or result.loss.shape == ()


def test_empty_elementwise_losses() -> None:
    """No elements: mean NaN, sum 0, none empty."""
    mean, total, none = (answer(bce(np.empty((0, 3)), np.empty((0, 3)), reduction=how)) for how in (MEAN, SUM, NONE))

    assert isnan(mean.loss)
    assert total.loss == 0.0
    assert none.loss.shape == (0, 3)


def test_a_signalling_nan_is_a_nan() -> None:
    """A weight whose bits are a signalling NaN makes the denominator NaN, without a warning."""
    weights = np.array([0x7F800001], np.uint32).view(np.float32)

    assert isnan(weights_of(weights)[0])


def test_what_a_backend_raises_passes_through() -> None:
    """It is the whole batch's: whoever made the batch takes it apart."""

    class Exhausted(Recording):
        def run(self, launches: Any) -> Any:
            raise MemoryError

    with pytest.raises(MemoryError):
        evaluate(Exhausted(), [cross_entropy()])


def test_sums_keep_what_an_addition_rounds_off() -> None:
    """1e16 + 1 − 1e16 + 1 + 1 + 1 is 4; in float64, from the left and without care, it would be 3."""

    class Given(Recording):
        def run(self, launches: Any) -> Any:
            (result,) = super().run(launches)
            result.losses = np.array([1e16, 1.0, -1e16, 1.0, 1.0, 1.0])
            return [result]

    (result,) = evaluate(Given(), [cross_entropy(reduction=SUM)])

    assert isinstance(result, Answer)
    assert result.loss == 4.0


def test_a_sum_beyond_float32_is_infinite() -> None:
    """The loss is float32; the summary says the sum all the same."""

    class Huge(Recording):
        def run(self, launches: Any) -> Any:
            (result,) = super().run(launches)
            result.chunk_sums = np.array([1e300])
            return [result]

    (result,) = evaluate(Huge(), [bce([0.5], [1.0])])

    assert isinstance(result, Answer)
    assert result.loss == np.float32("inf")
    assert summary(result).loss_sum == 1e300


def test_a_loss_has_the_dtype_that_is_computed_in() -> None:
    """float32 for 16-bit inputs, whatever dtype the row losses came in."""
    request = service.EntropyRequest(input=tensor([[1.0, 3.0]], "float16"), kind=4, reduction=1)  # type: ignore[arg-type]

    assert answer(check("Entropy", request)).loss.dtype == np.float32
    assert answer(cross_entropy()).loss.dtype == np.float64


@pytest.mark.parametrize("rpc", ["NLL", "CrossEntropy"])
def test_denominators_are_as_exact_as_sums(rpc: str) -> None:
    """Σ w[y] of 20,000 float64 weights of mixed size and both signs is math.fsum's, to the last bit."""
    rng = np.random.default_rng(5)
    weight = rng.standard_normal(50) * 10.0 ** rng.integers(-9, 9, 50)
    weight[25:] = -weight[:25]
    weight[0] += 1.0
    target = rng.integers(0, 50, (200, 10, 10))
    tensors = {
        "input": tensor(rng.standard_normal((200, 50, 10, 10)), "float64"),
        "target": tensor(target, "int64"),
        "weight": tensor(weight, "float64"),
    }
    job = check(rpc, getattr(service, f"{rpc}Request")(**tensors))

    assert denominator_of(job).weight_sum == fsum(weight[target.ravel()])
