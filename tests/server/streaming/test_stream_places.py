"""Places for streams are shared between connections."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from lossd_server.admission.caller_holdings import CallerHoldings
from lossd_server.admission.stream_shares import CallerShare, ConnectionShare
from lossd_server.call.identity import Identity, Sharer
from lossd_server.streaming.stream_places import has_place, makes_room

IDLE_S = 60.0


@dataclass
class Silent:
    share: ConnectionShare
    silent_since: float


def caller() -> CallerShare:
    return CallerShare(CallerHoldings().of(Identity("a")))


def share(streams: int, of: CallerShare | None = None) -> ConnectionShare:
    """A connection with so many streams, of a caller of its own where none is given."""
    found = ConnectionShare(Sharer("a", object()), of or caller())
    found.streams = streams
    found.caller.streams += streams
    return found


@given(st.integers(1, 1000))
def test_one_connection_leaves_places(most: int) -> None:
    """It has three quarters of them, and the next one those of what is left."""
    own = 0
    while has_place(share(own + 1), own, most):
        own += 1

    assert own == min(most, most * 3 // 4 + 1)
    assert has_place(share(1), own, most) == (own < most)


def test_one_caller_leaves_places() -> None:
    """However many connections it has: all of them together have three quarters."""
    one, taken = caller(), 0
    while has_place(share(1, one), taken, 100):
        taken += 1

    assert taken == 76
    assert has_place(share(1), taken, 100)


def test_the_longest_silent_makes_room() -> None:
    """Where it has been silent for the idle time, whoever has it."""
    one, other = Silent(share(1), 30.0), Silent(share(1), 20.0)

    assert makes_room([one, other], share(2), 20.0 + IDLE_S, IDLE_S) is other
    assert makes_room([one, other], share(2), 19.0 + IDLE_S, IDLE_S) is None


def test_a_caller_with_more_places_makes_room_at_once() -> None:
    """For one that has fewer afterwards; a stream with something open keeps its place."""
    many = share(3)
    busy, silent = Silent(many, inf), Silent(many, 100.0)

    assert makes_room([busy, silent], share(2), 100.0, IDLE_S) is silent
    assert makes_room([busy, silent], share(3), 100.0, IDLE_S) is None
    assert makes_room([busy], share(1), 1e9, IDLE_S) is None


def test_connections_of_one_caller_make_room_for_each_other() -> None:
    """As callers do."""
    of = caller()
    silent = Silent(share(3, of), 100.0)

    assert makes_room([silent], share(2, of), 100.0, IDLE_S) is silent
    assert makes_room([silent], share(3, of), 100.0, IDLE_S) is None
