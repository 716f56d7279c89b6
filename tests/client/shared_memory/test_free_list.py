"""Free ranges of a region."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lossd.shared_memory.free_list import ALIGNMENT, FreeList


@given(st.lists(st.tuples(st.integers(0, 700), st.integers(0, 3)), max_size=60))
def test_taken_ranges_never_overlap(steps: list[tuple[int, int]]) -> None:
    """What is taken is aligned, within the region and nobody else's; when all is given back the region is whole."""
    extents = FreeList(64 * ALIGNMENT)
    taken: dict[int, int] = {}
    for size, step in steps:
        if step == 0 and taken:
            offset = next(iter(taken))
            extents.give_back(offset, taken.pop(offset))
            continue
        offset_or_none = extents.take(size)
        if offset_or_none is not None:
            offset = offset_or_none
            assert offset % ALIGNMENT == 0
            assert offset + size <= extents.size
            assert all(
                offset >= other + max(1, length) or other >= offset + max(1, size) for other, length in taken.items()
            )
            taken[offset] = size
    for offset, size in taken.items():
        extents.give_back(offset, size)

    assert extents.free == [(0, extents.size)]


def test_no_room() -> None:
    """A range that fits nowhere is None."""
    extents = FreeList(4 * ALIGNMENT)
    first = extents.take(2 * ALIGNMENT)

    assert first == 0
    assert extents.take(3 * ALIGNMENT) is None
    assert extents.take(2 * ALIGNMENT) == 2 * ALIGNMENT
    assert extents.take(0) is None
