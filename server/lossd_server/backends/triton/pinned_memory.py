"""Pinned host memory: shared-memory regions, registered once, that the device copies operands from directly."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition
from typing import Any

import numpy.typing as npt

from lossd_server.backends.triton.device import Device

DIRECT_BYTES = 1 << 16  # smaller operands are packed: a device copy of their own would cost more


class PinnedRegions:
    """The registered ranges, by address. Thread-safe."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._changed = Condition()
        self._ranges: list[tuple[int, int]] = []  # first byte, end: sorted, disjoint
        self._readers: set[object] = set()

    def add(self, address: int, size: int) -> None:
        """Registers `size` bytes at `address`; raises the device's error where that fails."""
        with self._changed:
            self._device.pin(address, size)
            self._ranges.append((address, address + size))
            self._ranges.sort()

    def remove(self, address: int) -> None:
        """Unregisters a range, once whoever reads it now has finished; nothing where it is not registered."""
        with self._changed:
            kept = [one for one in self._ranges if one[0] != address]
            if len(kept) == len(self._ranges):
                return
            self._ranges = kept
            readers = set(self._readers)
            self._changed.wait_for(lambda: not readers & self._readers)
            self._device.unpin(address)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """While this lasts, a range that `holds` has named stays registered."""
        reader = object()
        with self._changed:
            self._readers.add(reader)
        try:
            yield
        finally:
            with self._changed:
                self._readers.discard(reader)
                self._changed.notify_all()

    def holds(self, values: npt.NDArray[Any]) -> bool:
        """Whether `values` lies in one range, and is large enough for a device copy of its own."""
        if values.nbytes < DIRECT_BYTES or not values.flags.c_contiguous:
            return False
        address = values.__array_interface__["data"][0]
        with self._changed:
            place = bisect_right(self._ranges, (address, 2**63)) - 1
            return place >= 0 and address + values.nbytes <= self._ranges[place][1]
