"""Buffer pool: memory for large answers, used again.

The first touch of a page costs more than computing what goes there. An array from the pool owns a lease; numpy keeps it
alive as long as any view of the array lives, and then the memory goes back. Answers are overwritten whole before
anybody reads them.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

ALIGNMENT = 64  # a cache line: large gradients are stored past the cache
POOLED_BYTES = 1 << 20  # smaller ones are the allocator's affair
IDLE_BYTES = 1 << 29  # what is kept at most while nobody uses it


class Lease:
    """Part of the pool's memory, in use; numpy reads `__array_interface__`."""

    def __init__(self, pool: Pool, raw: npt.NDArray[np.uint8], size: int) -> None:
        self._pool = pool
        self._raw = raw
        start: int = raw.__array_interface__["data"][0]
        self.__array_interface__ = {
            "shape": (size,),
            "typestr": "|u1",
            "data": (start + -start % ALIGNMENT, False),
            "version": 3,
        }

    def __del__(self) -> None:
        self._pool.give_back(self._raw)


class Pool:
    """Idle memory by size, the longest idle given up first. Thread-safe."""

    def __init__(self, idle_bytes: int = IDLE_BYTES) -> None:
        self._limit = idle_bytes
        self._idle: list[npt.NDArray[np.uint8]] = []
        self._untouched: set[int] = set()  # of those, by id, that have been idle since `age`
        self._lock = threading.RLock()  # a lease may end while this very thread is in here

    def empty(self, count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """An uninitialised array; a large one starts on a cache line. Raises MemoryError."""
        size = count * dtype.itemsize
        if size < POOLED_BYTES:
            return np.empty(count, dtype)
        wanted = size + ALIGNMENT
        with self._lock:
            fitting = [raw for raw in self._idle if wanted <= raw.nbytes <= 2 * wanted]
            found = min(fitting, key=lambda raw: raw.nbytes, default=None)
            if found is not None:
                self._idle = [raw for raw in self._idle if raw is not found]
                self._untouched.discard(id(found))
        raw = np.empty(wanted, np.uint8) if found is None else found
        return np.asarray(Lease(self, raw, size)).view(dtype)

    def trim(self) -> None:
        """Lets go of all that is idle."""
        with self._lock:
            self._idle.clear()
            self._untouched.clear()

    def age(self) -> None:
        """Lets go of what nobody has taken since the last time: under load that never ends, sizes of other days would
        be kept for ever."""
        with self._lock:
            self._idle = [raw for raw in self._idle if id(raw) not in self._untouched]
            self._untouched = set(map(id, self._idle))

    def give_back(self, raw: npt.NDArray[np.uint8]) -> None:
        with self._lock:
            self._idle.append(raw)
            while sum(kept.nbytes for kept in self._idle) > self._limit:
                self._untouched.discard(id(self._idle.pop(0)))
