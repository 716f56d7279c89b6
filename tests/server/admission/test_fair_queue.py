"""The fair queue: callers take turns, and so do the connections of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from lossd_server.admission.fair_queue import FairQueue
from lossd_server.call.identity import Sharer


def queue_of(items: Iterable[tuple[str, float]]) -> FairQueue[str]:
    """Items are called after their sharer: "ax1" is of connection x of caller a."""
    queue: FairQueue[str] = FairQueue()
    for name, size in items:
        queue.put(Sharer(name[0], name[1]), size, name)
    return queue


def taken(queue: FairQueue[str], count: int = 10**6) -> list[str]:
    return [queue.pop() for _ in range(min(count, len(queue)))]


def test_a_flood_costs_another_caller_its_share_alone() -> None:
    """However many items and connections one caller has: the other has every second turn."""
    flood = [(f"{caller}{n % 9}{n}", 1.0) for caller in "a" for n in range(90)]
    served = taken(queue_of([*flood, *((f"bx{n}", 1.0) for n in range(10))]), 20)

    assert [name[0] for name in served].count("b") == 10
    assert Counter(name[1] for name in served if name[0] == "a").most_common(1)[0][1] == 2


def test_one_connection_keeps_its_order() -> None:
    """Whatever the sizes."""
    assert taken(queue_of([("ax1", 9.0), ("ax2", 1.0), ("ax3", 5.0)])) == ["ax1", "ax2", "ax3"]


def test_equal_ones_take_turns_in_the_order_of_arrival() -> None:
    """Each has one of its items, then the next has."""
    names = ("ax1", "ax2", "ax3", "bx1", "bx2", "cx1")

    assert taken(queue_of((name, 1.0) for name in names)) == ["ax1", "bx1", "cx1", "ax2", "bx2", "ax3"]


def test_the_smallest_of_a_caller_is_what_it_has_next() -> None:
    """Another connection's smaller item brings the caller nearer."""
    assert taken(queue_of([("ax1", 9.0), ("bx1", 4.0), ("ay1", 2.0)])) == ["ay1", "bx1", "ax1"]


def test_who_comes_later_begins_where_the_others_stand() -> None:
    """It is not ahead by what they had before."""
    queue = queue_of((f"ax{n}", 1.0) for n in range(6))
    taken(queue, 4)
    for n in range(4):
        queue.put(Sharer("b", "x"), 1.0, f"bx{n}")

    assert taken(queue) == ["ax4", "bx0", "ax5", "bx1", "bx2", "bx3"]


def test_what_is_dropped_counts_for_nothing() -> None:
    """The next item of the connection has its turn."""
    queue = queue_of([("ax1", 100.0), ("ax2", 1.0), ("bx1", 2.0)])

    assert queue.drop(Sharer("a", "x")) == "ax1"
    assert taken(queue) == ["ax2", "bx1"]


def test_who_was_set_aside_has_not_saved_its_turns() -> None:
    """It stands where the others stand when it is back."""
    queue = queue_of([*((f"ax{n}", 1.0) for n in range(4)), *((f"bx{n}", 1.0) for n in range(6))])
    queue.set_aside(Sharer("a"))
    assert taken(queue, 3) == ["bx0", "bx1", "bx2"]
    queue.bring_back()

    assert taken(queue, 4) in (["ax0", "bx3", "ax1", "bx4"], ["bx3", "ax0", "bx4", "ax1"])


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(1, 100)), max_size=60))
def test_everything_comes_once_and_nothing_is_kept(items: list[tuple[str, str, int]]) -> None:
    """In the order of arrival within each connection."""
    names = [(f"{caller}{connection}{n}", float(size)) for n, (caller, connection, size) in enumerate(items)]
    queue = queue_of(names)
    heads = {sharer for sharer, _ in queue.heads()}
    served = taken(queue)

    assert heads == {Sharer(name[0], name[1]) for name, _ in names}
    assert sorted(served) == sorted(name for name, _ in names)
    for first in "abc":
        for second in "xyz":
            own = [int(name[2:]) for name in served if name[:2] == first + second]
            assert own == sorted(own)
    assert queue.first() is None
    assert not queue._callers
    assert not queue._level._heap


def test_passing_small_ones_leave_nothing_behind() -> None:
    """While something huge waits, what came and went is not remembered."""
    queue = queue_of([("ax1", 1e9)])
    for n in range(10_000):
        queue.put(Sharer("a", "y"), 1.0, f"ay{n}")
        queue.pop()

    assert len(queue._level._heap) < 300
    assert len(queue._callers["a"].level._heap) < 300


def test_what_is_ahead_of_a_connection() -> None:
    """Its own, and of each other caller no more than that: a flood is not ahead of who has nothing in line."""
    queue = queue_of([*((f"ax{n}", 10.0) for n in range(50)), ("bx0", 10.0), ("by0", 30.0)])

    assert queue.ahead_of(Sharer("a", "x")) == 540.0  # all there is
    assert queue.ahead_of(Sharer("b", "x")) == 40.0  # as much of a's as of b's, whose connections take turns
    assert queue.ahead_of(Sharer("b", "y")) == 80.0
    assert queue.ahead_of(Sharer("b", "z")) == 0.0
    assert queue.ahead_of(Sharer("c", "x")) == 0.0
    taken(queue)
    assert queue.ahead_of(Sharer("a", "x")) == queue.in_line == 0.0


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(1, 100)), min_size=1, max_size=60),
    st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(1, 100)),
)
def test_what_is_ahead_is_no_guess(items: list[tuple[str, str, int]], last: tuple[str, str, int]) -> None:
    """What is served before one that comes last is what was said, but for the sizes of one item of each connection."""
    sizes = {f"{caller}{connection}{n}": float(size) for n, (caller, connection, size) in enumerate(items)}
    queue = queue_of(sizes.items())
    sharer = Sharer(*last[:2])
    ahead = queue.ahead_of(sharer)
    queue.put(sharer, float(last[2]), "last")
    before = taken(queue)
    before = before[: before.index("last")]

    assert sum(sizes[name] for name in before) <= ahead + 9 * 100.0
