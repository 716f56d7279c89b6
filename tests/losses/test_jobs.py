"""What good requests become: layouts, shapes of losses, dtypes, broadcasting."""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
import pytest

from lossd.v1 import service_pb2 as service
from lossd.v1 import tensor_pb2 as pb
from lossd_server.errors import InvalidRequest
from lossd_server.jobs.job import Formula, Layout, Reduction
from tests.losses.checked import check
from tests.losses.messages import raw, tensor, zeros

INTEGERS = ["uint8", "int8", "int16", "int32", "int64"]
FLOATS8 = [pb.DATA_TYPE_FLOAT8_E4M3FN, pb.DATA_TYPE_FLOAT8_E5M2]


@pytest.mark.parametrize(
    "shape, target, layout, loss_shape",
    [
        ((5,), (), Layout(1, 5, 1), ()),
        ((5,), (1,), Layout(1, 5, 1), ()),
        ((1,), (1,), Layout(1, 1, 1), ()),
        ((8, 16), (8,), Layout(8, 16, 1), (8,)),
        ((2, 3, 4, 5), (2, 4, 5), Layout(2, 3, 20), (2, 4, 5)),
        ((0, 3), (0,), Layout(0, 3, 1), (0,)),
        ((2, 3, 0), (2, 0), Layout(2, 3, 0), (2, 0)),
        ((3, 0), (3,), Layout(3, 0, 1), (3,)),
    ],
)
def test_the_class_dimension_is_1_and_0_for_one_row(
    shape: tuple[int, ...], target: tuple[int, ...], layout: Layout, loss_shape: tuple[int, ...]
) -> None:
    """Input (C) has one loss of shape (); (N, C, d1 … dk) has losses (N, d1 … dk), as in PyTorch."""
    request = service.CrossEntropyRequest(input=zeros(*shape), target=zeros(*target, dtype=pb.DATA_TYPE_INT64))

    job = check("CrossEntropy", request)

    assert (job.layout, job.loss_shape) == (layout, loss_shape)


@pytest.mark.parametrize(
    "dim, layout, loss_shape", [(0, (1, 2, 12), (3, 4)), (-1, (6, 4, 1), (2, 3)), (1, (2, 3, 4), (2, 4))]
)
def test_dim_moves_the_class_dimension(dim: int, layout: tuple[int, int, int], loss_shape: tuple[int, ...]) -> None:
    """Entropy's rows lie along any dimension, named from either end."""
    job = check("Entropy", service.EntropyRequest(input=zeros(2, 3, 4), dim=dim))

    assert (job.layout, job.loss_shape) == (Layout(*layout), loss_shape)


@pytest.mark.parametrize(
    "shape, layout", [((), (1, 1, 1)), ((7,), (7, 1, 1)), ((2, 3, 4), (2, 12, 1)), ((2, 0), (2, 0, 1))]
)
def test_items_of_an_elementwise_loss_are_dimension_0(shape: tuple[int, ...], layout: tuple[int, int, int]) -> None:
    """A scalar is one item of one element."""
    job = check("BCE", service.BCERequest(input=zeros(*shape), target=zeros(*shape)))

    assert (job.layout, job.loss_shape) == (Layout(*layout), shape)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_class_indices_of_any_integer_dtype_become_int64(dtype: str) -> None:
    """uint8 200 is class 200, int8 −100 is the ignored one."""
    values = [200, 0] if dtype == "uint8" else [-100, 2]

    job = check("CrossEntropy", service.CrossEntropyRequest(input=zeros(2, 201), target=tensor(values, dtype)))

    assert job.target is not None
    assert job.target.values.dtype == np.int64
    assert job.target.values.tolist() == values


@pytest.mark.parametrize("target_kind, formula", [(0, "DISTRIBUTION"), (3, "DISTRIBUTION")])
def test_a_float_target_of_the_inputs_shape_is_a_distribution(target_kind: int, formula: str) -> None:
    """For one row too, where a target of length 1 could be taken for an index."""
    request = service.CrossEntropyRequest(input=zeros(1), target=zeros(1), target_kind=target_kind)  # type: ignore[arg-type]

    assert check("CrossEntropy", request).formula is Formula[f"CROSS_ENTROPY_{formula}"]


@pytest.mark.parametrize("field", ["input", "target", "weight", "pos_weight", "grad_output"])
def test_one_float64_tensor_makes_the_loss_float64(field: str) -> None:
    """Floats promote, whichever tensor is the wide one."""
    tensors: dict[str, Any] = {
        "input": zeros(2, dtype=pb.DATA_TYPE_BFLOAT16),
        "target": zeros(2, dtype=pb.DATA_TYPE_FLOAT16),
        "weight": zeros(),
        "pos_weight": zeros(),
        "grad_output": zeros(),
    }
    narrow = check("BCEWithLogits", service.BCEWithLogitsRequest(**tensors))
    tensors[field] = zeros(*tensors[field].shape, dtype=pb.DATA_TYPE_FLOAT64)
    wide = check("BCEWithLogits", service.BCEWithLogitsRequest(**tensors))

    assert (narrow.compute.name, wide.compute.name) == ("float32", "float64")


def test_16_bit_operands_stay_as_they_were_sent() -> None:
    """Their bits are what kernels read: nothing large is converted here."""
    request = service.BCERequest(
        input=zeros(3, dtype=pb.DATA_TYPE_BFLOAT16), target=zeros(3, dtype=pb.DATA_TYPE_FLOAT16)
    )

    job = check("BCE", request)

    assert job.target is not None
    assert (job.input.dtype, job.target.dtype) == (pb.DATA_TYPE_BFLOAT16, pb.DATA_TYPE_FLOAT16)
    assert (job.input.values.dtype.name, job.target.values.dtype.name) == ("uint16", "uint16")


@pytest.mark.parametrize("dtype", FLOATS8)
def test_8_bit_operands_stay_as_they_were_sent(dtype: int) -> None:
    """And count as the float32 that they are computed in, as their gradients do."""
    request = service.EntropyRequest(input=pb.Tensor(dtype=dtype, shape=[2], data=b"\x38\x3c"))  # type: ignore[arg-type]

    job = check("Entropy", request)

    assert (job.input.dtype, job.input.values.tolist()) == (dtype, [0x38, 0x3C])
    assert job.work_bytes == 8


@pytest.mark.parametrize("dtype", ["bool", *INTEGERS])
def test_bool_and_integer_targets_of_bce_are_numbers(dtype: str) -> None:
    """0 and 1 in the dtype that is computed in."""
    job = check("BCE", service.BCERequest(input=zeros(2), target=tensor([0, 1], dtype)))

    assert job.target is not None
    assert job.target.dtype == pb.DATA_TYPE_FLOAT32
    assert job.target.values.tolist() == [0.0, 1.0]


def test_integer_counts_are_numbers() -> None:
    """COUNTS are the one input that may be integers."""
    job = check("Entropy", service.EntropyRequest(input=tensor([[2, 3, 4]], "int64"), kind=4))  # type: ignore[arg-type]

    assert job.formula is Formula.ENTROPY_COUNTS
    assert job.input.values.tolist() == [2.0, 3.0, 4.0]


@pytest.mark.parametrize("shape", [(), (1,), (4,), (3, 1), (2, 1, 1), (1, 3, 4), (2, 3, 4), (1, 1, 4)])
def test_weights_broadcast_as_in_numpy(shape: tuple[int, ...]) -> None:
    """A broadcast weight is its values and strides, 0 along what is repeated."""
    values = np.random.default_rng(0).random(shape, np.float32)
    request = service.BCERequest(input=zeros(2, 3, 4), target=zeros(2, 3, 4), weight=tensor(values))

    view = check("BCE", request).weight

    assert view is not None
    strides = [4 * stride for stride in view.strides]
    seen = np.lib.stride_tricks.as_strided(view.values, view.shape, strides)
    np.testing.assert_array_equal(seen, np.broadcast_to(values, (2, 3, 4)))


def test_weights_of_other_dtypes_are_widened_to_what_is_computed_in() -> None:
    """bfloat16 0x3fc0 is 1.5."""
    weight = pb.Tensor(dtype=pb.DATA_TYPE_BFLOAT16, shape=[3], data=b"\xc0\x3f" * 3)
    target = zeros(2, dtype=pb.DATA_TYPE_INT64)
    job = check("CrossEntropy", service.CrossEntropyRequest(input=zeros(2, 3), target=target, weight=weight))

    assert job.class_weight is not None
    assert job.class_weight.dtype == np.float32
    assert job.class_weight.tolist() == [1.5] * 3


def test_absent_options_are_pytorchs() -> None:
    """Mean, nats, −100, no smoothing, no gradient."""
    job = check(
        "CrossEntropy", service.CrossEntropyRequest(input=zeros(2, 3), target=zeros(2, dtype=pb.DATA_TYPE_INT64))
    )

    assert (job.ignore_index, job.label_smoothing, job.class_weight) == (-100, 0.0, None)
    assert (job.input_gradient, job.target_gradient) == (False, False)
    assert job.reducing.reduction is Reduction.MEAN
    assert (job.reducing.log_base, job.reducing.upstream, job.reducing.normalizer) == (1.0, 1.0, None)


def test_options_arrive() -> None:
    """An ignore_index of 0 is one; bits are nats over ln 2."""
    request = service.CrossEntropyRequest(
        input=zeros(2, 3),
        target=zeros(2, dtype=pb.DATA_TYPE_INT64),
        ignore_index=0,
        label_smoothing=0.25,
        base=2.0,
        normalizer=7.0,
        empty_mean=2,  # type: ignore[arg-type]
        gradients=[1, 1],  # type: ignore[list-item]
        grad_output=tensor(3.0),
    )

    job = check("CrossEntropy", request)

    assert (job.ignore_index, job.label_smoothing, job.input_gradient) == (0, 0.25, True)
    assert (job.reducing.log_base, job.reducing.upstream) == (log(2), 3.0)
    assert (job.reducing.normalizer, job.reducing.empty_mean_zero) == (7.0, True)


def test_pytorchs_default_ignore_index_may_be_passed_with_a_distribution() -> None:
    """PyTorch refuses it from 0 on only."""
    request = service.CrossEntropyRequest(input=zeros(2, 3), target=zeros(2, 3), ignore_index=-100)

    assert check("CrossEntropy", request).formula is Formula.CROSS_ENTROPY_DISTRIBUTION


def test_row_losses_take_an_upstream_gradient_a_row() -> None:
    """In float64, in the rows' C order."""
    request = service.EntropyRequest(input=zeros(2, 3), reduction=1, grad_output=tensor([1.0, -2.0], "float16"))  # type: ignore[arg-type]

    job = check("Entropy", request)

    assert job.row_upstream is not None
    assert job.row_upstream.dtype == np.float64
    assert job.row_upstream.tolist() == [1.0, -2.0]


def test_elementwise_losses_take_an_upstream_gradient_an_element() -> None:
    """Seen as the input is."""
    request = service.BCERequest(input=zeros(2, 3), target=zeros(2, 3), reduction=1, grad_output=zeros(2, 3))  # type: ignore[arg-type]

    job = check("BCE", request)

    assert job.upstream is not None
    assert (job.upstream.shape, job.upstream.strides) == ((2, 3), (3, 1))


def test_data_may_be_absent_where_there_are_no_elements() -> None:
    """Zero elements take zero bytes, said or not."""
    empty = pb.Tensor(dtype=pb.DATA_TYPE_FLOAT32, shape=[0, 3])

    assert (
        check("BCE", service.BCERequest(input=empty, target=raw([0, 3], pb.DATA_TYPE_FLOAT32, 0))).layout.elements == 0
    )


def test_the_target_of_an_empty_input_is_still_held_to_its_shape() -> None:
    """No elements is no excuse."""
    with pytest.raises(InvalidRequest, match="target has shape \\[0\\]"):
        check("BCE", service.BCERequest(input=zeros(0, 3), target=zeros(0)))
