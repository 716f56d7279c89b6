"""Places for streams are shared between connections."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from lossd_server.admission.stream_shares import ConnectionShare
from lossd_server.streaming.stream_places import has_place, makes_room

IDLE_S = 60.0


@dataclass
class Silent:
    share: ConnectionShare
    silent_since: float


def share(streams: int) -> ConnectionShare:
    found = ConnectionShare(object())
    found.streams = streams
    return found


@given(st.integers(1, 1000))
def test_one_connection_leaves_places(most: int) -> None:
    """It has three quarters of them, and the next one those of what is left."""
    own = 0
    while has_place(own, own, most):
        own += 1

    assert own == min(most, most * 3 // 4 + 1)
    assert has_place(0, own, most) == (own < most)


def test_the_longest_silent_makes_room() -> None:
    """Where it has been silent for the idle time, whoever has it."""
    one, other = Silent(share(1), 30.0), Silent(share(1), 20.0)

    assert makes_room([one, other], 1, 20.0 + IDLE_S, IDLE_S) is other
    assert makes_room([one, other], 1, 19.0 + IDLE_S, IDLE_S) is None


def test_a_connection_with_more_places_makes_room_at_once() -> None:
    """For one that has fewer afterwards; a stream with something open keeps its place."""
    many = share(3)
    busy, silent = Silent(many, inf), Silent(many, 100.0)

    assert makes_room([busy, silent], 1, 100.0, IDLE_S) is silent
    assert makes_room([busy, silent], 2, 100.0, IDLE_S) is None
    assert makes_room([busy], 0, 1e9, IDLE_S) is None
