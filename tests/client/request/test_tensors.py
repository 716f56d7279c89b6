"""Arrays in and out of the wire."""

from __future__ import annotations

import array
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

import lossd
from lossd.request import tensors
from lossd.v1 import tensor_pb2 as pb

NUMPY: dict[Any, int] = {
    np.bool_: pb.DATA_TYPE_BOOL,
    np.uint8: pb.DATA_TYPE_UINT8,
    np.int8: pb.DATA_TYPE_INT8,
    np.int16: pb.DATA_TYPE_INT16,
    np.int32: pb.DATA_TYPE_INT32,
    np.int64: pb.DATA_TYPE_INT64,
    ml_dtypes.float8_e4m3fn: pb.DATA_TYPE_FLOAT8_E4M3FN,
    ml_dtypes.float8_e5m2: pb.DATA_TYPE_FLOAT8_E5M2,
    np.float16: pb.DATA_TYPE_FLOAT16,
    ml_dtypes.bfloat16: pb.DATA_TYPE_BFLOAT16,
    np.float32: pb.DATA_TYPE_FLOAT32,
    np.float64: pb.DATA_TYPE_FLOAT64,
}
TORCH = {
    torch.bool: pb.DATA_TYPE_BOOL,
    torch.uint8: pb.DATA_TYPE_UINT8,
    torch.int8: pb.DATA_TYPE_INT8,
    torch.int16: pb.DATA_TYPE_INT16,
    torch.int32: pb.DATA_TYPE_INT32,
    torch.int64: pb.DATA_TYPE_INT64,
    torch.float8_e4m3fn: pb.DATA_TYPE_FLOAT8_E4M3FN,
    torch.float8_e5m2: pb.DATA_TYPE_FLOAT8_E5M2,
    torch.float16: pb.DATA_TYPE_FLOAT16,
    torch.bfloat16: pb.DATA_TYPE_BFLOAT16,
    torch.float32: pb.DATA_TYPE_FLOAT32,
    torch.float64: pb.DATA_TYPE_FLOAT64,
}


def wire(operand: tensors.Operand) -> pb.Tensor:
    return pb.Tensor(dtype=operand.dtype, shape=operand.shape, data=bytes(operand.data()))


def refused(value: Any) -> lossd.InvalidArgument:
    with pytest.raises(lossd.InvalidArgument) as caught:
        tensors.take("target", value)
    assert caught.value.field == "target"
    return caught.value


@pytest.mark.parametrize("dtype", NUMPY)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (2, 3)])
def test_a_numpy_array_goes_and_comes_back_with_its_bits(dtype: Any, shape: tuple[int, ...]) -> None:
    """Every dtype of the contract, at every rank, empty or not, keeps dtype, shape and bits."""
    given = (np.arange(int(np.prod(shape))).reshape(shape) % 2).astype(dtype)

    operand = tensors.take("input", given)
    back = tensors.give(wire(operand))

    assert operand.dtype == NUMPY[dtype]
    assert (back.dtype, back.shape, back.tobytes()) == (given.dtype, shape, given.tobytes())
    assert back.flags.writeable


@pytest.mark.parametrize("dtype", TORCH, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_a_torch_tensor_goes_and_comes_back_with_its_bits(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """Every dtype of the contract that torch has crosses without a change of dtype."""
    given = (torch.arange(int(np.prod(shape))).reshape(shape) % 2).to(dtype)

    operand = tensors.take("input", given)
    back = tensors.give(wire(operand), torch=operand.torch)

    assert operand.dtype == TORCH[dtype]
    assert (back.dtype, back.shape) == (dtype, given.shape)
    assert torch.equal(back.view(torch.uint8) if shape else back, given.view(torch.uint8) if shape else given)


def test_torch_tensors_are_detached_and_laid_out_in_c_order() -> None:
    """A transposed view that requires a gradient is sent as its values in C order."""
    given = torch.arange(6.0).reshape(2, 3).T.requires_grad_()

    assert tensors.take("input", given).data() == np.arange(6, dtype=np.float32).reshape(2, 3).T.tobytes()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e5m2], ids=str)
def test_strided_torch_tensors_of_small_floats_keep_their_bits(dtype: torch.dtype) -> None:
    """The view of the bits follows strides."""
    given = torch.arange(6.0).reshape(2, 3).to(dtype)

    assert tensors.take("input", given.T).data() == tensors.take("input", given.T.contiguous()).data()


@pytest.mark.parametrize("dtype", [">f4", ">i8", ">f2"])
def test_big_endian_arrays_are_sent_little_endian(dtype: str) -> None:
    """The values stay, the bytes turn round."""
    operand = tensors.take("input", np.array([1, 2, 300], dtype))

    assert operand.data() == np.array([1, 2, 300], dtype.replace(">", "<")).tobytes()


def test_non_contiguous_arrays_are_sent_in_c_order() -> None:
    """Strides, reversal and Fortran order leave no trace on the wire."""
    given = np.asfortranarray(np.arange(12.0).reshape(3, 4))[::-1, ::2]

    assert tensors.take("input", given).data() == np.ascontiguousarray(given).tobytes()


def test_a_memory_map_is_read_in_place(tmp_path: Path) -> None:
    """np.memmap is an array like any other."""
    np.save(tmp_path / "x.npy", np.arange(4, dtype=np.float32))

    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")

    operand = tensors.take("input", mapped)

    assert (operand.dtype, operand.shape) == (pb.DATA_TYPE_FLOAT32, (4,))
    assert np.shares_memory(operand.values, mapped)


@pytest.mark.parametrize(
    "value, dtype, shape",
    [
        ([[1.0, 2.0]], pb.DATA_TYPE_FLOAT64, (1, 2)),
        ([1, 2, 3], pb.DATA_TYPE_INT64, (3,)),
        ((True, False), pb.DATA_TYPE_BOOL, (2,)),
        (3, pb.DATA_TYPE_INT64, ()),
        (array.array("f", [1, 2]), pb.DATA_TYPE_FLOAT32, (2,)),
        (memoryview(b"abc"), pb.DATA_TYPE_UINT8, (3,)),
        (np.float16(1), pb.DATA_TYPE_FLOAT16, ()),
    ],
)
def test_lists_scalars_and_buffers_are_what_numpy_makes_of_them(value: Any, dtype: int, shape: tuple[int, ...]) -> None:
    """Lists of floats are float64, of ints int64; buffers keep their format."""
    operand = tensors.take("input", value)

    assert (operand.dtype, operand.shape) == (dtype, shape)


class OnlyDLPack:
    """An array of another library."""

    def __init__(self, values: Any, fails: bool = False) -> None:
        self._values, self._fails = values, fails

    def __dlpack__(self, **options: Any) -> Any:
        if self._fails:
            raise BufferError("not on the CPU")
        return self._values.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


def test_dlpack_is_read() -> None:
    """An object that has nothing but DLPack is an array."""
    assert tensors.take("input", OnlyDLPack(np.arange(3.0))).data() == np.arange(3.0).tobytes()


def test_dlpack_from_elsewhere_is_refused() -> None:
    """Memory that is not the CPU's is named, not copied."""
    assert "OnlyDLPack that numpy cannot read" in str(refused(OnlyDLPack(None, fails=True)))


@pytest.mark.parametrize(
    "value, name",
    [
        (np.zeros(2, np.complex64), "complex64"),
        (np.array([None]), "object"),
        (np.array(["a"]), "str"),
        (torch.zeros(2, dtype=torch.complex64), "torch.complex64"),
        pytest.param(
            np.zeros(2, np.longdouble),
            "float128",
            marks=pytest.mark.skipif(np.dtype(np.longdouble).itemsize != 16, reason="no 128-bit floats here"),
        ),
    ],
)
def test_a_dtype_without_a_place_on_the_wire_is_named(value: Any, name: str) -> None:
    """Nothing is rounded or cut in silence."""
    assert f"target has dtype {name}" in str(refused(value))


@pytest.mark.parametrize(
    "value, sentence",
    [
        ([[1.0], [1.0, 2.0]], "is not an array"),
        (np.ma.masked_array([1.0], [True]), "masked array"),
        (torch.zeros(2, device="meta"), "on meta"),
        (torch.zeros(2).to_sparse(), "torch.sparse_coo"),
    ],
)
def test_what_is_no_dense_array_is_refused_in_one_sentence(value: Any, sentence: str) -> None:
    """Ragged lists, masks, other devices and layouts."""
    error = refused(value)

    assert sentence in str(error)
    assert "\n" not in str(error)


def test_a_malformed_answer_is_the_servers_fault() -> None:
    """Fewer bytes than the shape needs."""
    with pytest.raises(lossd.InternalError, match=r"shape \[3\] in 4 bytes"):
        tensors.give(pb.Tensor(dtype=pb.DATA_TYPE_FLOAT32, shape=(3,), data=b"1234"))
