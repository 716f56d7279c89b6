"""Lists: what is made of them in pieces is what numpy makes of them at once, and which are converted at once."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest

import lossd
from lossd.request import conversion_cost
from lossd.request.build import build
from lossd.request.conversion_cost import as_array, is_quick

LISTS: list[Any] = [
    [],
    [1, 2, 3, 4, 5],
    [1, 2, 3, 0.5],
    [True, False, True, 2],
    (1.0, 2.0, 3.0),
    [[1, 2], [3, 4], [5.5, 6]],
    [(1, 2), [3, 4], (5, 6)],
    [[[1.0], [2.0]], [[3.0], [4.0]]],
    [np.array(0), np.array(1), np.array(2)],
    [np.ones(3), np.zeros(3), np.ones(3)],
    [np.float32(1), np.float32(2), np.float32(3)],
    range(2, 9, 3),
    range(5, 0, -1),
    deque([1, 2, 3]),
    7,
    1.5,
]


@pytest.mark.parametrize("value", LISTS, ids=repr)
@pytest.mark.parametrize("piece", [1, 2, 20_000])
def test_pieces_make_the_same_array(value: Any, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same shape and dtype."""
    monkeypatch.setattr(conversion_cost, "_PIECE_NUMBERS", piece)

    found, expected = as_array(value), np.asarray(value)

    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert found.tolist() == expected.tolist()


def test_long_lists_are_read_in_pieces() -> None:
    """So that no other thread waits for all of one."""
    read = []

    class Noted(list[float]):
        def __getitem__(self, where: Any) -> Any:
            read.append(where)
            return super().__getitem__(where)

    array = as_array(Noted([1.0] * 50_000))

    assert len(array) == 50_000
    assert max(where.stop - where.start for where in read if isinstance(where, slice)) <= 20_000


@pytest.mark.parametrize("value", [[[1.0, 2.0], [3.0]], ["a", "b"], [1, None], [[1], 2], [{}]], ids=repr)
@pytest.mark.parametrize("piece", [1, 20_000])
def test_what_is_no_array_is_refused(value: Any, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """InvalidArgument, in whatever pieces."""
    monkeypatch.setattr(conversion_cost, "_PIECE_NUMBERS", piece)

    with pytest.raises(lossd.InvalidArgument):
        build("entropy", value)


@pytest.mark.parametrize(
    "value",
    [
        [np.ma.masked_array(0, mask=True), np.array(1)],
        [np.ma.masked, 1],
        deque([np.ma.masked_array([1, 2], mask=[False, True])]),
        [deque([1, np.ma.masked])],
    ],
    ids=repr,
)
def test_masks_are_not_lost(value: Any) -> None:
    """In any list."""
    with pytest.raises(lossd.InvalidArgument, match="masked"):
        build("entropy", value)


def test_a_masked_array_is_not_written_into() -> None:
    """InvalidArgument: its mask would be wrong."""
    with pytest.raises(lossd.InvalidArgument, match="MaskedArray"):
        build("entropy", np.ones((2, 3)), grad=True, out=np.ma.zeros((2, 3)))


class Foreign:
    def __array__(self) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("value", "quick"),
    [
        (1.0, True),
        ("mean", True),
        (None, True),
        (np.zeros(1 << 24), True),
        ([1.0] * 100, True),
        ([np.array(0)] * 100, True),
        ([1.0] * 100_000, False),
        ([[1.0] * 1000] * 100, False),
        ([[[1.0] * 10] * 100] * 100, False),
        ([np.zeros((100, 100))] * 100, False),
        (range(10), False),
        (Foreign(), False),
        (bytearray(1 << 22), True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_which_are_taken_at_once(value: Any, quick: bool) -> None:
    """What copies little, whatever it is."""
    assert is_quick(value) is quick
