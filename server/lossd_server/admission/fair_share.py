"""Fair share of what cannot be taken back soon: whoever holds some of it leaves a quarter of the rest. Pure."""

from __future__ import annotations


def within(own: int, others: int, most: int) -> bool:
    """Whether one that has `own` leaves a quarter of what is there beside the others', of `most` in all.

    So one that is alone has three quarters, the next one three quarters of the rest, and there is always some left.
    """
    return 4 * own <= 3 * (most - others)
