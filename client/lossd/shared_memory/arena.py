"""Arena: memory shared with the server. Made, registered, lent, used again. Linux only.

A large array gets a region of its own, small ones share one. Pages cost 0.3 s for a GB when they are first touched, so
regions are kept for the next array of about their size.
"""

from __future__ import annotations

import mmap
import os
import weakref
from bisect import bisect
from collections import deque
from math import prod
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.contract import FAULT_AROUND
from lossd.errors import Overloaded
from lossd.shared_memory import socket_client
from lossd.shared_memory.free_list import FreeList

IDLE_BYTES = 1 << 30  # of regions kept while nobody uses them: input and gradient of (4096, 32000) in float32
SHARED_BYTES = 1 << 20  # arrays up to this size share regions
SLAB_BYTES = 8 << 20  # of such a region

Bytes = npt.NDArray[np.uint8]


class Region:
    """Memory that both ends have mapped. The mapping lives as long as any array in it."""

    def __init__(self, token: bytes, mapped: mmap.mmap) -> None:
        self.token = token
        self.memory: Bytes = np.frombuffer(mapped, np.uint8)
        self.start: int = self.memory.__array_interface__["data"][0]
        self.extents = FreeList(self.memory.size)
        self.loans = 0
        self.retired = False  # lends no more: the server may still write here

    @property
    def size(self) -> int:
        return self.extents.size


class Loan:
    """`size` bytes at `offset` of a region, until `release` or `discard`, or until nobody holds the loan.

    numpy reads `__array_interface__`: an array made of a loan holds it.
    """

    def __init__(self, regions: Arena, region: Region, offset: int, size: int) -> None:
        self._regions: Arena | None = regions
        self._region = region
        self.offset = offset
        self.size = size
        self.__array_interface__ = {
            "shape": (size,),
            "typestr": "|u1",
            "data": (region.start + offset, False),
            "version": 3,
        }

    @property
    def token(self) -> bytes:
        return self._region.token

    @property
    def memory(self) -> Bytes:
        """The bytes themselves, writable. They do not hold the loan: another's after its end."""
        return self._region.memory[self.offset : self.offset + self.size]

    def array(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """The bytes as an array that holds the loan."""
        return np.asarray(self).view(dtype).reshape(shape)

    def release(self) -> None:
        """Gives the memory back. A second time does nothing."""
        self._end(spoiled=False)

    def discard(self) -> None:
        """Gives it back as memory that the server may still write to: for a call whose end was not heard."""
        self._end(spoiled=True)

    def __del__(self) -> None:
        self._end(spoiled=False)

    def _end(self, spoiled: bool) -> None:
        regions, self._regions = self._regions, None
        if regions is not None:
            regions.take_back(self._region, self.offset, self.size, spoiled)


class Arena:
    """The regions of one connection to one server process. Thread-safe; a forked child finds nothing in them.

    Once the connection is lost `find` finds nothing and `lend` raises Unavailable; arrays stay as they are.
    """

    def __init__(self, connection: socket_client.SocketClient, idle_bytes: int = IDLE_BYTES) -> None:
        self._connection = connection
        self._idle_bytes = idle_bytes
        self._pid = os.getpid()
        self._closed = False
        self._lock = Lock()
        self._idle: dict[Region, None] = {}  # those without a loan, the longest idle first
        # Where regions begin, in order, and the regions: replaced, never changed, so that `find` needs no lock.
        self._places: tuple[list[int], list[Region]] = ([], [])
        # Loans end wherever the collector runs, under the lock too: they leave a note, and who can tidies up.
        self._ended: deque[tuple[Region, int, int, bool]] = deque()
        weakref.finalize(self, connection.close)

    @classmethod
    def connect(cls, socket_path: str, instance_id: str) -> Arena | None:
        """For the server process that tells both in GetServerInfo; None where it is not on this host."""
        connection = socket_client.connect(socket_path, instance_id)
        return None if connection is None else cls(connection)

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An uninitialised array in a region, given back when its last view goes. Raises as `lend`."""
        kind = np.dtype(dtype)
        if kind.hasobject:
            raise TypeError(f"{kind} holds Python objects, which no other process can read")
        return self.lend(prod(shape) * kind.itemsize).array(shape, kind)

    def lend(self, nbytes: int) -> Loan:
        """`nbytes` of a region, uninitialised, on a cache line; 0.4 s for a GB that was not used before.

        Raises Overloaded or TooLarge where the server has no room, Unavailable where the connection is lost,
        MemoryError where this machine has none.
        """
        if os.getpid() != self._pid:
            raise socket_client.lost()
        with self._lock:
            self._tidy()
            if self._closed:
                raise socket_client.lost()
            region, offset = self._taken(nbytes)
            region.loans += 1
            self._idle.pop(region, None)
            loan = Loan(self, region, offset, nbytes)
        self._settle()
        return loan

    def find(self, array: npt.NDArray[Any]) -> tuple[bytes, int] | None:
        """The token and the offset of a C-contiguous array that lies in a region; None for any other."""
        if self._closed or os.getpid() != self._pid or not array.flags.c_contiguous or not array.nbytes:
            return None
        start: int = array.__array_interface__["data"][0]
        starts, regions = self._places
        position = bisect(starts, start) - 1
        if position < 0:
            return None
        region = regions[position]
        offset = start - region.start
        if offset + array.nbytes > region.size or offset % array.itemsize:
            return None
        return (region.token, offset) if self._connection.alive else None

    def close(self) -> None:
        """Ends the connection, and with it every token. Arrays stay as they are. A second time does nothing."""
        self._closed = True
        if os.getpid() != self._pid:
            return  # the parent's: its lock may be held for ever here
        self._connection.leave()
        with self._lock:
            self._places = ([], [])
            self._idle.clear()
            self._connection.close()

    def take_back(self, region: Region, offset: int, size: int, spoiled: bool) -> None:
        """For loans: `spoiled` memory is not lent again."""
        self._ended.append((region, offset, size, spoiled))
        self._settle()

    def _taken(self, size: int) -> tuple[Region, int]:
        """Room for `size` bytes: in a region that is there, or in a new one."""
        if size <= SHARED_BYTES:
            wanted = SLAB_BYTES
            fitting = [one for one in self._places[1] if one.size == SLAB_BYTES and not one.retired]
        else:
            wanted = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
            fitting = sorted(
                (one for one in self._idle if wanted <= one.size <= 2 * wanted), key=lambda region: region.size
            )
        for region in fitting:
            offset = region.extents.take(size)
            if offset is not None:
                return region, offset
        region = self._new(wanted)
        offset = region.extents.take(size)
        assert offset is not None
        return region, offset

    def _new(self, size: int) -> Region:
        """A registered region; idle ones make room for it where the server is full."""
        try:
            token, mapped = self._connection.register(size)
        except Overloaded:
            if not self._idle:
                raise
            self._give_up(0)
            token, mapped = self._connection.register(size)
        region = Region(token, mapped)
        region.memory[::FAULT_AROUND].max()
        self._place([*self._places[1], region])
        return region

    def _settle(self) -> None:
        """Tidies up after ended loans, unless somebody is in here, who does when leaving."""
        while self._ended and self._pid == os.getpid() and self._lock.acquire(blocking=False):
            try:
                self._tidy()
            finally:
                self._lock.release()

    def _tidy(self) -> None:
        while self._ended:
            region, offset, size, spoiled = self._ended.popleft()
            region.extents.give_back(offset, size)
            region.retired |= spoiled
            region.loans -= 1
            if not region.loans:
                self._idle[region] = None
        self._give_up(0 if self._closed else self._idle_bytes)

    def _give_up(self, most: int) -> None:
        """Ends retired regions, and the longest idle ones until at most `most` bytes are idle."""
        total = sum(region.size for region in self._idle)
        gone = []
        for region in self._idle:
            if total > most or region.retired:
                if not self._connection.end(region.token):
                    break
                gone.append(region)
                total -= region.size
        for region in gone:
            del self._idle[region]
        if gone:
            self._place([region for region in self._places[1] if region not in gone])

    def _place(self, regions: list[Region]) -> None:
        regions.sort(key=lambda region: region.start)
        self._places = [region.start for region in regions], regions
