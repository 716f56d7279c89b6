"""Shared memory as the client keeps it: lent, found, given back, used again."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import numpy as np
import pytest

from lossd.shared_memory import socket_client, socket_protocol
from lossd.shared_memory.arena import Arena
from tests.client.shared_memory.sharing import LARGE, opened, place, serving
from tests.server.shared_memory.memfds import descriptors, mappings


@pytest.fixture
def regions() -> Iterator[Arena]:
    with serving() as info:
        found = opened(info)
        yield found
        found.close()


def test_found(regions: Arena) -> None:
    """An array in a region is found, and so is a C-contiguous view of it; no other array is."""
    array = regions.empty((6, 8), np.float32)
    token, offset = place(regions, array)

    assert len(token) == socket_protocol.TOKEN_BYTES
    assert place(regions, array[2:4]) == (token, offset + 2 * 32)
    assert place(regions, array.reshape(-1)) == (token, offset)
    assert place(regions, array.view(np.int16)) == (token, offset)
    assert regions.find(array[:, ::2]) is None
    assert regions.find(array.T) is None
    assert regions.find(array[:0]) is None
    assert regions.find(array.copy()) is None
    assert regions.find(array.view(np.uint8).reshape(-1)[1:5].view(np.uint8)) == (token, offset + 1)
    assert regions.find(array.view(np.uint8).reshape(-1)[1:5].view(np.float32)) is None


@pytest.mark.parametrize("shape, dtype", [((), "float64"), ((0, 5), "float32"), ((3,), "bool"), ((2, 2), "int16")])
def test_empty(regions: Arena, shape: tuple[int, ...], dtype: str) -> None:
    """An array of any shape and dtype may lie there, writable and aligned."""
    array = regions.empty(shape, dtype)
    array[...] = 1

    assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
    assert array.flags.aligned
    assert array.flags.c_contiguous


def test_no_objects(regions: Arena) -> None:
    """Python objects cannot be shared."""
    with pytest.raises(TypeError, match="Python objects"):
        regions.empty((2,), object)


def test_small_arrays_share_a_region(regions: Arena) -> None:
    """Small arrays lie side by side, large ones in regions of their own."""
    small = [regions.empty((100,), np.float64) for _ in range(3)]
    large = [regions.empty((LARGE,), np.uint8) for _ in range(2)]

    assert len({place(regions, array)[0] for array in small}) == 1
    assert len({place(regions, array) for array in small}) == 3
    assert len({place(regions, array)[0] for array in small + large}) == 3


def test_used_again(regions: Arena) -> None:
    """Memory goes back with the last view of its array, and serves the next array of about its size."""
    first = regions.empty((LARGE,), np.uint8)
    there = place(regions, first)
    view = first[10:]
    del first
    gc.collect()
    other = regions.empty((LARGE,), np.uint8)
    assert place(regions, other) != there
    del view
    gc.collect()

    assert place(regions, regions.empty((LARGE - 5000,), np.uint8)) == there
    assert place(regions, regions.empty((LARGE // 4,), np.uint8))[0] != there[0]


def test_idle_memory_is_bounded() -> None:
    """What nobody uses is kept up to a bound; beyond it the longest idle goes, here and at the server."""
    gc.collect()
    before = mappings(), descriptors()
    with serving() as info:
        connection = socket_client.connect(info.shared_memory_socket, info.instance_id)
        assert connection is not None
        regions = Arena(connection, idle_bytes=2 * LARGE)
        arrays = [regions.empty((LARGE,), np.uint8) for _ in range(5)]
        places = [place(regions, array) for array in arrays]
        while arrays:  # one after the other, so that the first is idle longest
            arrays.pop(0)
        kept = [regions.empty((LARGE,), np.uint8) for _ in range(2)]

        assert {place(regions, array) for array in kept} == set(places[3:])
        regions.close()
        del kept
    gc.collect()
    assert mappings() <= before[0]
    assert descriptors() <= before[1]


def test_loans(regions: Arena) -> None:
    """A loan's memory is its own until it is released; a second release does nothing."""
    loan, other = regions.lend(1000), regions.lend(1000)
    loan.memory[:] = 1
    other.memory[:] = 2

    assert loan.memory.tolist() == [1] * 1000
    assert place(regions, loan.memory) == (loan.token, loan.offset)
    offset = loan.offset
    loan.release()
    loan.release()
    assert regions.lend(1000).offset == offset
    assert other.memory.tolist() == [2] * 1000


def test_discarded(regions: Arena) -> None:
    """Memory that the server may still write to is never lent again."""
    loan = regions.lend(LARGE)
    token = loan.token
    kept = loan.array((LARGE,), np.uint8)
    loan.discard()
    loan.release()
    small, neighbour = regions.lend(10), regions.lend(10)
    slab = small.token
    small.discard()

    assert regions.lend(LARGE).token != token
    assert regions.find(kept) is None
    assert regions.find(neighbour.memory) == (slab, neighbour.offset)
    assert regions.lend(10).token != slab
    neighbour.release()
    kept[:] = 1
