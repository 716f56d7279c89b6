"""Integers that the wire lacks: labels and counts without a sign, and those beyond 64 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lossd
from lossd.request import tensors
from lossd.request.build import build
from lossd.v1 import tensor_pb2 as pb
from tests.client.request.test_tensors import OnlyDLPack

UNSIGNED: dict[Any, tuple[int, str]] = {
    np.uint16: (pb.DATA_TYPE_INT32, "<i4"),
    np.uint32: (pb.DATA_TYPE_INT64, "<i8"),
    np.uint64: (pb.DATA_TYPE_INT64, "<i8"),
}
GIVEN: dict[str, Any] = {
    "array": lambda values: values,
    "big endian": lambda values: values.astype(values.dtype.newbyteorder(">")),
    "strided": lambda values: np.repeat(values, 2)[::2],
    "DLPack": OnlyDLPack,
    "buffer": memoryview,
    "torch": torch.from_numpy,
}


@pytest.mark.parametrize("size", [0, 5, 1 << 20], ids=["empty", "small", "large"])
@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("dtype", UNSIGNED)
@pytest.mark.parametrize("field", ["input", "target"])
def test_unsigned_integers_are_sent_as_signed_ones_that_fit(field: str, dtype: Any, given: str, size: int) -> None:
    """Labels and counts, however they are given: whole and in parts, before and after they are copied."""
    values = np.linspace(0, min(np.iinfo(dtype).max, 2**62), size).astype(dtype)
    wire_dtype, layout = UNSIGNED[dtype]
    expected = values.astype(layout)

    taken = tensors.take(field, GIVEN[given](values))
    operand = taken.checked(field)

    for one in (operand, operand.owned()):
        assert (one.dtype, one.shape, one.nbytes) == (wire_dtype, (size,), expected.nbytes)
        assert bytes(one.data()) == expected.tobytes()
        assert bytes(one.items(1, 4)) == expected[1:4].tobytes()
        assert one.torch == (given == "torch")
    assert taken.nbytes == expected.nbytes


def test_large_unsigned_integers_are_not_copied_when_they_are_taken(tmp_path: Path) -> None:
    """64 bits are never: their memory is sent as it is. The others are converted part by part, in a file, too."""
    for dtype in UNSIGNED:
        np.save(tmp_path / "x.npy", np.ones(1 << 20, dtype))
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r")

        for values in (np.ones(1 << 20, dtype), mapped):
            operand = tensors.take("target", values).checked("target")

            assert np.shares_memory(operand.values, values)
            assert operand.is_mapped() == (values is mapped)
        assert np.shares_memory(operand.owned().values, mapped)


@pytest.mark.parametrize(
    "value, sentence",
    [
        (np.array([[1, 2**63]], np.uint64), "target[0, 1] = 9223372036854775808 does not fit int64"),
        (np.uint64(2**64 - 100), "target = 18446744073709551516 does not fit int64"),
        (torch.tensor([0, -1]).view(torch.uint64), "target[1] = 18446744073709551615 does not fit int64"),
        (np.full(1 << 18, 2**63, ">u8"), "target[0] = 9223372036854775808 does not fit int64"),
        (OnlyDLPack(np.array([2**63], np.uint64)), "target[0] = 9223372036854775808 does not fit int64"),
        ([1, 2**63], "target[1] = 9223372036854775808 does not fit int64"),
        ((3, -(2**63) - 1), "target[1] = -9223372036854775809 does not fit int64"),
        ([-1, 2**63], "target[1] = 9223372036854775808 does not fit int64"),
        ([[1, 2], [3, 2**80]], "target[1, 1] = 1208925819614629174706176 does not fit int64"),
    ],
    ids=lambda one: one if isinstance(one, str) else type(one).__name__,
)
def test_an_integer_that_does_not_fit_is_named(value: Any, sentence: str) -> None:
    """With its place; it is never sent as another number."""
    with pytest.raises(lossd.InvalidArgument) as caught:
        tensors.take("target", value).checked("target")

    assert sentence in str(caught.value)
    assert (caught.value.field, caught.value.reason) == ("target", "INTEGER_OUT_OF_RANGE")
    assert f"{caught.value.metadata['index']} = {caught.value.metadata['value']}" in sentence


def test_a_large_array_is_not_read_when_it_is_taken() -> None:
    """An event loop may take it: the pass over its values comes where a thread may block."""
    large = np.full((1 << 17) + 1, 2**63, np.uint64)

    call = build("nll", np.zeros((len(large), 2), np.float32), large)

    for prepare in (call.checked, call.owned):
        with pytest.raises(lossd.InvalidArgument, match=r"target\[0\] = 9223372036854775808 does not fit"):
            prepare()


def test_large_floats_in_lists_are_floats() -> None:
    """Only integers are refused for their size."""
    assert tensors.take("input", [1.0, 1e300, 2**63]).data() == np.array([1.0, 1e300, 2.0**63]).tobytes()


@pytest.mark.parametrize("field", ["weight", "pos_weight", "row_weight", "grad_output"])
def test_unsigned_integers_that_are_no_labels_are_refused(field: str) -> None:
    """By their own name."""
    for value in (np.ones(2, np.uint16), torch.ones(2, dtype=torch.uint16)):
        with pytest.raises(lossd.InvalidArgument, match=f"{field} has dtype (torch.)?uint16; convert it to one of"):
            tensors.take(field, value)
