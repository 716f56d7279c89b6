"""The chaos program's watch: what does not end is found, and a stopped process has hung for no time."""

from __future__ import annotations

from chaos.watch import Watch


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def looks(watch: Watch[str], clock: Clock, count: int, step_s: float) -> list[str]:
    found = []
    for _ in range(count):
        clock.now += step_s
        found += watch.overdue()
    return found


def test_an_operation_that_does_not_end() -> None:
    """It is told once, when its bound is over; one that ended in time is not."""
    clock = Clock()
    watch: Watch[str] = Watch(clock, 0.5)
    watch.begin("hangs", 5.0)
    ended = watch.begin("ends", 5.0)
    early = looks(watch, clock, 9, 0.5)
    in_time = watch.end(ended)
    found = looks(watch, clock, 20, 0.5)

    assert early == []
    assert in_time
    assert found == ["hangs"]


def test_an_answer_after_the_bound() -> None:
    """It does not count any more: the operation was told as hung."""
    clock = Clock()
    watch: Watch[str] = Watch(clock, 0.5)
    handle = watch.begin("late", 1.0)
    looks(watch, clock, 10, 0.5)

    assert not watch.end(handle)


def test_a_process_that_was_stopped() -> None:
    """A pause of an hour between two looks counts as one look."""
    clock = Clock()
    watch: Watch[str] = Watch(clock, 0.5)
    watch.begin("waits", 5.0)

    assert looks(watch, clock, 3, 3600.0) == []
