"""Gradients that would be written where something else is read, or written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import lossd
from lossd.request.build import build

BASE = np.linspace(0.1, 0.9, 400, dtype=np.float32)
P, T = BASE[:100], BASE[100:200]
SQUARE = BASE.reshape(20, 20)


def refused(*tensors: Any, grad: Any = True, out: Any, **options: Any) -> lossd.InvalidArgument:
    with pytest.raises(lossd.InvalidArgument) as caught:
        build("bce", *tensors, grad=grad, out=out, **options)
    assert (caught.value.field, caught.value.reason) == ("out", "OUT_DOES_NOT_FIT")
    return caught.value


@pytest.mark.parametrize("start", [1, 50, 99])
def test_a_part_of_the_tensor(start: int) -> None:
    """Gradients of the first items would overwrite later ones."""
    assert "shares memory with input" in str(refused(P, T, out=BASE[start : start + 100]))


@pytest.mark.parametrize("out", [T, BASE[150:250]])
def test_another_tensor(out: Any) -> None:
    """The target would be overwritten while it is read: wholly or partly."""
    assert "shares memory with target" in str(refused(P, T, out=out))


def test_a_weight() -> None:
    """Tensors among the options are tensors."""
    assert "shares memory with weight" in str(refused(P, T, out=BASE[200:300], weight=BASE[299:300]))


def test_one_array_for_two_gradients() -> None:
    """The second would overwrite the first."""
    both = np.empty(100, np.float32)

    assert "out for input" in str(refused(P, T, grad=("input", "target"), out={"input": both, "target": both}))


def test_a_view_with_gaps() -> None:
    """Columns that lie between the bytes of the output are found, however they lie."""
    assert "shares memory with target" in str(refused(SQUARE[:2, 0], SQUARE[3:13:5, 1], out=SQUARE[3, :2]))


def test_the_input_used_twice() -> None:
    """In place it would be overwritten as the target."""
    assert "shares memory with target" in str(refused(P, P, out=P))


def test_torch_tensors_share_memory_as_arrays_do() -> None:
    """Whichever library looks at the memory."""
    tensor = torch.rand(300)

    assert "shares memory with input" in str(refused(tensor[:100], T, out=tensor[50:150]))
    assert "shares memory with input" in str(refused(tensor.numpy()[:100], T, out=tensor[50:150]))


@pytest.mark.parametrize(
    "x, out",
    [
        (SQUARE[:, 0], np.empty(20, np.float32)),
        (SQUARE[::2, 0], SQUARE[1, :10]),  # between the rows that are read
        (P, BASE[100:200]),
    ],
)
def test_memory_that_is_not_shared(x: Any, out: Any) -> None:
    """Neighbours, and what lies between the rows of a view, are free."""
    target = np.zeros(len(x), np.float32)

    assert not build("bce", x, target, grad=True, out=out).out["input"].in_place


def test_the_whole_tensor_is_in_place() -> None:
    """`out is input` is the one overlap that has an exact meaning."""
    assert build("bce", P, T, grad=True, out=P).out["input"].in_place
