"""Free list of a region: pure arithmetic over ranges."""

from __future__ import annotations

from bisect import bisect

# A cache line: the server's kernels store large gradients past the cache, by whole lines.
ALIGNMENT = 64


class FreeList:
    """The free ranges of `size` bytes, in order and never touching each other."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._free: list[tuple[int, int]] = [(0, size)] if size else []

    @property
    def free(self) -> list[tuple[int, int]]:
        """Offset and size of each free range."""
        return list(self._free)

    def take(self, size: int) -> int | None:
        """The offset, a multiple of ALIGNMENT, of the first free range of `size` bytes; None where there is none."""
        wanted = aligned(size)
        for position, (offset, free) in enumerate(self._free):
            if free >= wanted:
                rest = [(offset + wanted, free - wanted)] if free > wanted else []
                self._free[position : position + 1] = rest
                return offset
        return None

    def give_back(self, offset: int, size: int) -> None:
        """Frees what `take(size)` gave as `offset`."""
        first, last = offset, offset + aligned(size)
        position = bisect(self._free, (first, 0))
        begin = position
        if begin and sum(self._free[begin - 1]) == first:
            begin -= 1
            first = self._free[begin][0]
        if position < len(self._free) and self._free[position][0] == last:
            last = sum(self._free[position])
            position += 1
        self._free[begin:position] = [(first, last - first)]


def aligned(size: int) -> int:
    """The next multiple of ALIGNMENT, so that no two ranges begin at one offset: of 0 bytes too."""
    return max(1, -(-size // ALIGNMENT)) * ALIGNMENT
