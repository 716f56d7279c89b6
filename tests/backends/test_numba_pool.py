"""The CPU backend's memory for large answers."""

from __future__ import annotations

import gc

import numpy as np

from lossd_server.backends.numba.buffer_pool import POOLED_BYTES, Pool


def address(values: np.ndarray) -> int:
    return int(values.__array_interface__["data"][0])


def test_memory_is_used_again_once_nobody_sees_it() -> None:
    """An array that died gives its memory to the next one of its size."""
    pool = Pool()
    first = pool.empty(POOLED_BYTES, np.dtype(np.float32))
    where = address(first)
    del first
    gc.collect()

    assert address(pool.empty(POOLED_BYTES, np.dtype(np.float32))) == where


def test_a_view_keeps_the_memory() -> None:
    """As long as any view of an array lives, its memory is nobody else's."""
    pool = Pool()
    first = pool.empty(POOLED_BYTES, np.dtype(np.float32))
    view = first[5:].reshape(-1, 1)
    view[:] = 7.0
    del first
    gc.collect()
    other = pool.empty(POOLED_BYTES, np.dtype(np.float32))
    other[:] = 0.0

    assert not np.shares_memory(view, other)
    assert (view == 7.0).all()


def test_arrays_start_on_a_cache_line() -> None:
    """Large arrays are aligned for stores past the cache."""
    pool = Pool()
    lines = [address(pool.empty(POOLED_BYTES + i, np.dtype(np.uint8))) % 64 for i in range(3)]

    assert lines == [0, 0, 0]


def test_idle_memory_is_bounded() -> None:
    """What nobody uses is kept up to the limit only."""
    pool = Pool(idle_bytes=3 * POOLED_BYTES)
    held = [pool.empty(POOLED_BYTES, np.dtype(np.uint8)) for _ in range(8)]
    del held
    gc.collect()

    assert sum(raw.nbytes for raw in pool._idle) <= 3 * POOLED_BYTES


def test_what_is_idle_is_let_go() -> None:
    """And an array that is in use stays as it is."""
    pool = Pool()
    used, idle = (pool.empty(POOLED_BYTES, np.dtype(np.float32)) for _ in range(2))
    used[:] = 3.0
    del idle
    gc.collect()
    pool.trim()

    assert pool._idle == []
    assert (used == 3.0).all()


def test_what_nobody_takes_any_more_is_let_go() -> None:
    """Under load that goes on, what was idle all the time between two looks; what is taken now and then stays."""
    pool = Pool()
    sizes = [POOLED_BYTES, 3 * POOLED_BYTES, 7 * POOLED_BYTES]
    arrays = [pool.empty(size, np.dtype(np.uint8)) for size in sizes]
    del arrays
    gc.collect()
    pool.age()
    taken = pool.empty(sizes[1], np.dtype(np.uint8))
    del taken
    gc.collect()
    assert len(pool._idle) == 3
    pool.age()
    assert [raw.nbytes // POOLED_BYTES for raw in pool._idle] == [3]
    pool.age()
    assert pool._idle == []
