"""Memory allocator: glibc's, told that messages of megabytes come and go and must not cost page faults.

What it keeps for the next ones is given back once there have been none for a while.

By default each message's memory is given back to the kernel when it is freed and faulted in again for the next one:
a third of the server's time while blocks of 2 MiB streamed through it.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable, Sequence
from typing import Any

# Numbers of mallopt's parameters, from malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
MMAP_BYTES = 32 << 20  # the most that glibc takes: below it memory comes from a heap, and goes back to it
TRIM_BYTES = 64 << 20  # what a heap keeps at its end
IDLE_S = 5.0
ARENAS = 4  # each keeps that much: gRPC's threads and ours would have eight a core


_kept = False


def keep() -> bool:
    """Makes this process keep what it frees, within bounds. False where the C library is none that can be told."""
    if platform.libc_ver()[0] != "glibc":
        return False
    global _kept
    _kept = True
    mallopt = ctypes.CDLL(None).mallopt
    told = ((M_MMAP_THRESHOLD, MMAP_BYTES), (M_TRIM_THRESHOLD, TRIM_BYTES), (M_ARENA_MAX, ARENAS))
    answers = [mallopt(parameter, value) for parameter, value in told]
    return answers == [1, 1, 1]


def give_back() -> None:
    """Gives the kernel what was freed, where this process keeps it."""
    if _kept:
        ctypes.CDLL(None).malloc_trim(0)


class IdleMemory:
    """release: called in turn, once after each time of work, when nothing has happened for IDLE_S."""

    def __init__(self, release: Sequence[Callable[[], object]]) -> None:
        self._release = release
        self._state: Any = None
        self._since = 0.0
        self._released = True

    def check(self, now: float, busy: bool, state: Any) -> None:
        """For a timer to call. state: something else whenever anything was done; busy: something is under way."""
        if busy or state != self._state:
            self._state, self._since, self._released = state, now, False
        elif not self._released and self._since + IDLE_S <= now:
            self._released = True
            for give_back in self._release:
                give_back()
