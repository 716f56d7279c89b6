"""Memory allocator: glibc's, told that messages of megabytes come and go and must not cost page faults.

By default each message's memory is given back to the kernel when it is freed and faulted in again for the next one:
a third of the server's time while blocks of 2 MiB streamed through it.
"""

from __future__ import annotations

import ctypes
import platform

# Numbers of mallopt's parameters, from malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
MMAP_BYTES = 32 << 20  # the most that glibc takes: below it memory comes from a heap, and goes back to it
TRIM_BYTES = 64 << 20  # what a heap keeps at its end
ARENAS = 4  # each keeps that much: gRPC's threads and ours would have eight a core


def keep() -> bool:
    """Makes this process keep what it frees, within bounds. False where the C library is none that can be told."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    told = ((M_MMAP_THRESHOLD, MMAP_BYTES), (M_TRIM_THRESHOLD, TRIM_BYTES), (M_ARENA_MAX, ARENAS))
    answers = [mallopt(parameter, value) for parameter, value in told]
    return answers == [1, 1, 1]
