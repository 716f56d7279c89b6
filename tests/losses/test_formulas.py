"""Which formula a request becomes, and what its job says beside that."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lossd.v1 import tensor_pb2 as pb
from lossd_server.jobs.job import Formula, Job, Kind, Layout, Reduction
from tests.losses.checked import check
from tests.losses.messages import tensor, zeros
from tests.losses.requests import (
    F32,
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

LOGITS, LOG_PROBABILITIES, PROBABILITIES, COUNTS, INDICES = 1, 2, 3, 4, 5
MEAN, BATCHMEAN = 2, 4
COUNTED = tensor(np.tile([2, 3, 4, 0], (8, 4)))


def job(request: Any) -> Job:
    return check(rpc(request), request)


@pytest.mark.parametrize(
    "request_, formula, kind",
    [
        (cross_entropy(), Formula.CROSS_ENTROPY_INDEX, Kind.LOGITS),
        (cross_entropy(kind=LOGITS), Formula.CROSS_ENTROPY_INDEX, Kind.LOGITS),
        (cross_entropy(kind=LOG_PROBABILITIES), Formula.CROSS_ENTROPY_KINDS_INDEX, Kind.LOG_PROBABILITIES),
        (cross_entropy(kind=PROBABILITIES), Formula.CROSS_ENTROPY_KINDS_INDEX, Kind.PROBABILITIES),
        (cross_entropy(input=COUNTED, kind=COUNTS), Formula.CROSS_ENTROPY_KINDS_INDEX, Kind.COUNTS),
        (distribution(), Formula.CROSS_ENTROPY_DISTRIBUTION, Kind.LOGITS),
        (distribution(kind=PROBABILITIES), Formula.CROSS_ENTROPY_KINDS_DISTRIBUTION, Kind.PROBABILITIES),
        (distribution(target=COUNTED, target_kind=COUNTS), Formula.CROSS_ENTROPY_DISTRIBUTION, Kind.LOGITS),
        (nll(), Formula.NLL, Kind.LOG_PROBABILITIES),
        (self_information(), Formula.SELF_INFORMATION, Kind.PROBABILITIES),
    ],
)
def test_kinds_choose_the_formula(request_: Any, formula: Formula, kind: Kind) -> None:
    """Cross-entropy has two for logits and two for the other kinds; counts as targets arrive as probabilities."""
    assert (job(request_).formula, job(request_).input_kind) == (formula, kind)


@pytest.mark.parametrize("kind", [0, LOGITS, LOG_PROBABILITIES, PROBABILITIES, COUNTS])
@pytest.mark.parametrize("target_kind", [0, LOGITS, LOG_PROBABILITIES, PROBABILITIES, COUNTS])
def test_a_divergence_has_rows_where_a_kind_is_normalised_over_them(kind: int, target_kind: int) -> None:
    """LOGITS or COUNTS on either side; else it is elementwise. No kernel sees a target of counts."""
    made = job(kl_divergence(input=COUNTED, target=COUNTED, kind=kind, target_kind=target_kind))
    by_row = {kind, target_kind} & {LOGITS, COUNTS}

    assert made.formula is (Formula.KL_ROWS if by_row else Formula.KL)
    assert made.input_kind is Kind(kind or LOG_PROBABILITIES)
    assert made.target_kind is (Kind.PROBABILITIES if target_kind in (0, COUNTS) else Kind(target_kind))
    assert made.loss_shape == (8, 16)


def test_the_rows_of_a_divergence_lie_along_dimension_1() -> None:
    """Its losses are elements all the same."""
    made = job(kl_divergence(input=zeros(2, 3, 4), target=zeros(2, 3, 4), kind=LOGITS))

    assert (made.layout, made.loss_shape) == (Layout(2, 3, 4), (2, 3, 4))


@pytest.mark.parametrize("make", [distribution, kl_divergence])
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 4)])
def test_a_target_of_counts_arrives_divided_by_its_rows_sums(make: Any, dtype: str, shape: tuple[int, ...]) -> None:
    """In float64, then in the dtype that is computed in."""
    counts = np.arange(1, np.prod(shape) + 1).reshape(shape)
    made = job(make(input=zeros(*shape), target=tensor(counts, dtype), target_kind=COUNTS))

    assert made.target is not None
    assert made.target.dtype == (F64 if dtype == "float64" else F32)
    axis = min(1, len(shape) - 1)
    shares = (counts / counts.sum(axis=axis, keepdims=True)).astype(made.compute).reshape(-1)
    np.testing.assert_array_equal(made.target.values, shares)


@pytest.mark.parametrize(
    "function, shape, dim, formula, layout",
    [
        (0, (8, 16), None, "SOFTMAX", (8, 16, 1)),
        (1, (2, 3, 4), None, "SOFTMAX", (2, 3, 4)),
        (1, (2, 3, 4), -1, "SOFTMAX", (6, 4, 1)),
        (1, (5,), 0, "SOFTMAX", (1, 5, 1)),
        (1, (), None, "SOFTMAX", (1, 1, 1)),
        (2, (2, 3, 4), 0, "LOG_SOFTMAX", (1, 2, 12)),
        (2, (), -1, "LOG_SOFTMAX", (1, 1, 1)),
        (3, (2, 3, 4), None, "SIGMOID", (2, 12, 1)),
        (4, (), None, "LOG_SIGMOID", (1, 1, 1)),
    ],
)
def test_activations(function: int, shape: Any, dim: int | None, formula: str, layout: tuple[int, int, int]) -> None:
    """Softmaxes have rows, along `dim` as in PyTorch; sigmoids have elements. Nothing is reduced."""
    made = job(activation(input=zeros(*shape), function=function, dim=dim))

    assert (made.formula, made.layout) == (Formula[formula], Layout(*layout))
    assert (made.reducing.reduction, made.loss_shape) == (Reduction.NONE, shape)


def test_an_activations_upstream_gradient_lies_as_its_input() -> None:
    """A view of the input's shape, rows or not."""
    made = job(activation(grad_output=zeros(8, 16), gradients=[1]))

    assert made.upstream is not None
    assert (made.upstream.shape, made.upstream.strides, made.input_gradient) == ((8, 16), (16, 1), True)


def test_self_information_is_unreduced_by_default() -> None:
    """Unlike the other losses."""
    assert job(self_information()).reducing.reduction is Reduction.NONE
    assert job(self_information(reduction=MEAN)).reducing.reduction is Reduction.MEAN


@pytest.mark.parametrize(
    "shape, fields, normalizer",
    [
        ((8, 16), {}, 8.0),
        ((5,), {}, 5.0),
        ((), {}, 1.0),
        ((0, 3), {}, None),
        ((3, 0), {}, 3.0),
        ((8, 16), {"normalizer": 2.0}, 2.0),
    ],
)
def test_batchmean_divides_by_the_size_of_dimension_0(shape: Any, fields: Any, normalizer: float | None) -> None:
    """1 for a scalar; `normalizer` in its place; of no items there is no mean."""
    reducing = job(kl_divergence(input=zeros(*shape), target=zeros(*shape), reduction=BATCHMEAN, **fields)).reducing

    assert (reducing.reduction, reducing.normalizer) == (Reduction.MEAN, normalizer)


@pytest.mark.parametrize("make", [cross_entropy, distribution, entropy])
def test_row_weights_are_float64_in_the_rows_order(make: Any) -> None:
    """One a row, of the rows' shape."""
    made = job(make(row_weight=tensor(np.arange(8), "float16")))

    assert made.row_weight is not None
    assert made.row_weight.dtype == np.float64
    assert made.row_weight.tolist() == list(range(8))
    assert made.compute == np.float32
    assert job(make(row_weight=zeros(8, dtype=F64))).compute == np.float64


def test_by_products_arrive() -> None:
    """Outputs by name, each once; penalty and cap as numbers; absent they are nothing."""
    made = job(cross_entropy(outputs=[1, 2, 3, 4, 4], z_loss=1e-4, softcap=30.0))
    plain = job(cross_entropy())

    assert made.outputs == {"lse", "entropy", "argmax", "correct"}
    assert (made.z_loss, made.softcap) == (1e-4, 30.0)
    assert (plain.z_loss, plain.softcap, plain.outputs) == (0.0, 0.0, frozenset())


@pytest.mark.parametrize(
    "dtype, gradient",
    [(None, F32), (F64, F64), (pb.DATA_TYPE_BFLOAT16, pb.DATA_TYPE_BFLOAT16), (pb.DATA_TYPE_FLOAT8_E5M2, F32)],
)
def test_a_class_weights_gradient_has_its_dtype(dtype: int | None, gradient: int) -> None:
    """float32 for 8-bit floats; the dtype that is computed in where no weight is given, and all count as ones."""
    weight = {} if dtype is None else {"weight": zeros(16, dtype=dtype)}
    made = job(distribution(gradients=[3], **weight))

    assert (made.weight_gradient, made.weight_dtype) == (True, gradient)


@pytest.mark.parametrize("make", [cross_entropy, nll])
def test_class_indices_of_one_row_may_be_of_length_1(make: Any) -> None:
    """As in PyTorch."""
    for shape in ((), (1,)):
        assert job(make(input=zeros(16), target=zeros(*shape, dtype=I64))).loss_shape == ()
