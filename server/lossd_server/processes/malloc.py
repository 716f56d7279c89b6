"""Memory allocator: glibc's, told that messages of megabytes come and go and must not cost page faults.

What it keeps for the next ones is given back once there have been none for a while; and what has gathered between
those that are held, now and then while they go on coming: a heap gives back its end alone by itself.

By default each message's memory is given back to the kernel when it is freed and faulted in again for the next one:
a third of the server's time while blocks of 2 MiB streamed through it.
"""

from __future__ import annotations

import ctypes
import platform
import threading
from collections.abc import Callable, Sequence
from math import inf
from typing import Any

# Numbers of mallopt's parameters, from malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
MMAP_BYTES = 32 << 20  # the most that glibc takes: below it memory comes from a heap, and goes back to it
TRIM_BYTES = 64 << 20  # what a heap keeps at its end
IDLE_S = 5.0
BUSY_S = 30.0  # between two times under load: both it and the page faults that follow are milliseconds
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


def give_back_beside() -> None:
    """The same by a thread of its own, while others go on."""
    if _kept:
        threading.Thread(target=give_back, name="lossd-give-back", daemon=True).start()


class SpareMemory:
    """release: called in turn, once after each time of work, when nothing has happened for IDLE_S. under_load: the
    same every BUSY_S of unbroken work."""

    def __init__(self, release: Sequence[Callable[[], object]], under_load: Sequence[Callable[[], object]]) -> None:
        self._release = release
        self._under_load = under_load
        self._busy_since = -inf
        self._state: Any = None
        self._since = 0.0
        self._released = True

    def check(self, now: float, busy: bool, state: Any) -> None:
        """For a timer to call. state: something else whenever anything was done; busy: something is under way."""
        if busy or state != self._state:
            self._state, self._since = state, now
            if self._released:
                self._released, self._busy_since = False, now
            elif self._busy_since + BUSY_S <= now:
                self._busy_since = now
                for give_back in self._under_load:
                    give_back()
        elif not self._released and self._since + IDLE_S <= now:
            self._released = True
            for give_back in self._release:
                give_back()
