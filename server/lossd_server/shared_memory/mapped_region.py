"""Mapped region: a client's memory as this process sees it. Which files are taken, and why no others can be.

Only a file that can never shrink is safe to read, since reading past its end kills the reader.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from lossd.contract import FAULT_AROUND
from lossd.shared_memory import socket_protocol
from lossd_server.errors import shortage

# WRITE cannot be asked for: gradients are placed here, and the client fills it again.
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_BLOCK = 512  # what st_blocks counts in, whatever the file system


class NotTaken(Exception):
    """A file that is not taken as shared memory. reason: UPPER_SNAKE."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.sentence = sentence


@dataclass(slots=True, eq=False)
class MappedRegion:
    """Mapped memory. `memory` is unmapped when nobody refers to it: it is never closed under a view.

    file: tells the regions of one file, registered twice, from those of others. unmapped: to be told, once.
    """

    memory: mmap.mmap
    size: int
    file: tuple[int, int]
    unmapped: Callable[[], object] | None = None


def mapped(file: int, announced: int) -> MappedRegion:
    """The region of an open file of `announced` bytes, which stays the caller's. Raises NotTaken."""
    try:
        seals = fcntl.fcntl(file, fcntl.F_GET_SEALS)
    except OSError:  # EINVAL
        raise NotTaken("NO_MEMFD", "the file is no memfd: only memory made by memfd_create is taken") from None
    if seals & SEALS != SEALS:
        raise NotTaken("NOT_SEALED", "the memfd is not sealed: F_SEAL_SHRINK, F_SEAL_GROW and F_SEAL_SEAL are needed")
    if os.fstatvfs(file).f_bsize != mmap.PAGESIZE:
        raise NotTaken("HUGE_PAGES", "the memfd was made with huge pages, which are not taken")
    found = os.fstat(file)
    if found.st_size != announced or announced <= 0:
        raise NotTaken("SIZE_MISMATCH", f"the memfd has {found.st_size} bytes, {announced} were announced")
    if found.st_blocks * _BLOCK < found.st_size:
        raise NotTaken("SPARSE", "the memfd has holes, which would be filled at this server's cost: use fallocate")
    try:
        memory = mmap.mmap(file, announced, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    except (MemoryError, OSError, ValueError, OverflowError) as error:  # sealed against writing; or no room now
        if shortage(error) is not None:
            sentence = f"the server has no memory or descriptors left to map {announced} bytes now"
            raise NotTaken(socket_protocol.FULL, sentence) from None
        raise NotTaken(
            "NOT_MAPPED", f"the memfd of {announced} bytes cannot be mapped for reading and writing"
        ) from None
    return MappedRegion(memory, announced, (found.st_dev, found.st_ino))


def touch(region: MappedRegion) -> None:
    """Maps every page now, without the interpreter's lock, and not one by one under the first kernel."""
    np.frombuffer(region.memory, np.uint8)[::FAULT_AROUND].max()


def unmap(regions: list[MappedRegion]) -> None:
    """Unmaps those that nobody views, without the interpreter's lock; the others go with their last view."""
    for region in regions:
        with suppress(BufferError):
            region.memory.close()
            if region.unmapped is not None:
                region.unmapped()
