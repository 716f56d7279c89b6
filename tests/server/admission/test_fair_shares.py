"""Fair shares: whose calls have to go for whom."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from lossd_server.admission.fair_shares import FairShares, HeldCall
from lossd_server.call.identity import Sharer

MOST_BYTES, MOST_REQUESTS = 1000, 10
NOW = 100.0
Call = HeldCall[str]


def sharer(name: str) -> Sharer:
    """Of the caller that the first letter names."""
    return Sharer(name[0], name)


def calls(name: str, *sizes: int, since: float = 0.0) -> list[Call]:
    """Named a0, a1, … ; each has waited for its client a little longer than the next."""
    return [HeldCall(f"{name}{at}", sharer(name), size, since + at) for at, size in enumerate(sizes)]


def pushed_out(held: Sequence[Call], *waiting: tuple[str, int]) -> list[str]:
    shares = FairShares(MOST_BYTES, MOST_REQUESTS, held, [(sharer(name), size) for name, size in waiting])
    free_bytes = MOST_BYTES - sum(one.bytes for one in held)
    return shares.to_push_out(free_bytes, MOST_REQUESTS - len(held), NOW)


def test_nobody_has_to_go_for_who_waits_on_the_same_connection() -> None:
    """Alone a connection may hold everything, and its own calls wait for each other."""
    assert pushed_out(calls("a", 500, 500), ("a", 100)) == []


def test_as_many_go_as_are_needed() -> None:
    """Of the connection that is above its share, those that have waited for their client for longest."""
    assert pushed_out(calls("a", 300, 300, 400), ("b", 10)) == ["a0"]
    assert pushed_out(calls("a", 300, 300, 400), ("b", 400)) == ["a0", "a1"]


def test_nobody_goes_where_there_is_room() -> None:
    """Who waits has its turn without that."""
    assert pushed_out(calls("a", 300, 300), ("b", 400)) == []


def test_nobody_is_pushed_out_for_more_than_a_share() -> None:
    """Else each would push out the other, and none would come to an end."""
    assert pushed_out(calls("a", 500, 500), ("b", 501)) == []
    assert pushed_out([*calls("a", 500), *calls("b", 500)], ("b", 10)) == []
    assert pushed_out([*calls("a", 500), *calls("b", 500)], ("a", 10), ("b", 10)) == []


def test_nobody_goes_below_its_share() -> None:
    """Three have a third each; the one that has more goes down to it at most."""
    held = [*calls("a", 300, 300), *calls("b", 330)]
    assert pushed_out(held, ("c", 100)) == ["a0"]
    assert pushed_out([*calls("a", 400, 250), *calls("b", 300)], ("c", 333)) == ["a0"]


def test_calls_that_are_computed_stay() -> None:
    """So do those whose client was not given its time yet."""
    assert pushed_out([HeldCall("computed", sharer("a"), 600, inf), *calls("a", 400)], ("b", 10)) == ["a0"]
    assert pushed_out(calls("a", 600, 400, since=inf), ("b", 10)) == []
    assert pushed_out(calls("a", 600, 400, since=NOW + 1), ("b", 10)) == []


def test_requests_are_shared_as_bytes_are() -> None:
    """Ten small ones of one connection make room for one of another."""
    assert pushed_out(calls("a", *[1] * 10), ("b", 1)) == ["a0"]
    assert pushed_out([*calls("a", *[1] * 5), *calls("b", *[1] * 5)], ("b", 1)) == []


def test_callers_share_before_their_connections_do() -> None:
    """Nine connections of one caller have half of all there is together, where another caller asks."""
    nine = [call for n in range(9) for call in calls(f"a{n}", 110, since=n)]
    assert pushed_out(nine, ("b", 500)) == [f"a{n}0" for n in range(5)]
    assert pushed_out(nine, ("b", 501)) == []


def test_a_caller_below_its_share_makes_no_room_for_another() -> None:
    """However much one of its connections has of that; its own other connections have their part of it."""
    held = [*calls("a1", 400), *calls("b", 590)]
    assert pushed_out(held, ("a2", 100)) == ["b0"]
    assert pushed_out([*calls("a1", 500), *calls("b", 500)], ("a2", 100)) == ["a10"]
