"""The batcher: pure, the clock passed in."""

from __future__ import annotations

import pytest

from lossd_server.call.identity import Sharer
from lossd_server.engine.batcher import Batcher, Waiting
from lossd_server.errors import Overloaded
from tests.server.messages import job

NEVER = float("inf")
KIB = 1024


def waiting(rows: int, classes: int = 8, deadline: float = NEVER, name: str = "", caller: str = "") -> Waiting[str]:
    return Waiting(job(rows, classes), deadline, 0, name, sharer=Sharer(caller))


def names(batcher: Batcher[str], now: float = 0.0) -> list[str]:
    batch, _ = batcher.take(now)
    return [one.reply for one in batch.waiting] if batch else []


def test_everything_that_fits() -> None:
    """One batch takes all that is in line, in order, and knows its bytes and rows."""
    batcher: Batcher[str] = Batcher(64 * KIB, 1000, 64 * KIB)
    for name in "abc":
        batcher.put(waiting(4, name=name))

    batch, late = batcher.take(0.0)
    assert batch is not None
    assert [one.reply for one in batch.waiting] == ["a", "b", "c"]
    assert batch.rows == 12
    assert batch.bytes == sum(one.work_bytes for one in batch.jobs)
    assert late == []
    assert batcher.take(0.0) == (None, [])


def test_byte_budget() -> None:
    """A batch stops before the job that would break its budget of bytes."""
    size = job(4).work_bytes
    batcher: Batcher[str] = Batcher(2 * size, 1000, 64 * KIB)
    for name in "abc":
        batcher.put(waiting(4, name=name))

    assert names(batcher) == ["a", "b"]
    assert names(batcher) == ["c"]


def test_row_budget() -> None:
    """A batch stops before the job that would break its budget of rows."""
    batcher: Batcher[str] = Batcher(64 * KIB, 8, 64 * KIB)
    for name in "abc":
        batcher.put(waiting(4, name=name))

    assert names(batcher) == ["a", "b"]
    assert names(batcher) == ["c"]


def test_a_flood_of_one_caller_costs_another_its_share() -> None:
    """Of each batch as many jobs are the other's, though they came behind all of the first's."""
    batcher: Batcher[str] = Batcher(64 * KIB, 8, 64 * KIB)
    for place in range(90):
        batcher.put(waiting(2, name=f"flood {place}", caller="a"))
    for place in range(3):
        batcher.put(waiting(2, name=f"other {place}", caller="b"))

    assert sorted(names(batcher)) == ["flood 0", "flood 1", "other 0", "other 1"]
    assert sorted(names(batcher)) == ["flood 2", "flood 3", "flood 4", "other 2"]


def test_larger_than_the_budget() -> None:
    """A job beyond every budget runs, alone."""
    batcher: Batcher[str] = Batcher(KIB, 10, KIB)
    batcher.put(waiting(100, name="huge"))
    batcher.put(waiting(200, name="huger"))

    assert names(batcher) == ["huge"]
    assert names(batcher) == ["huger"]


def test_small_jobs_are_not_starved() -> None:
    """Behind any number of large jobs a small one waits for one batch of them at most."""
    batcher: Batcher[str] = Batcher(8 * KIB, 10**6, KIB)
    for index in range(5):
        batcher.put(waiting(100, 20, name=f"large {index}"))
    assert names(batcher) == ["large 0"]
    batcher.put(waiting(1, name="small"))

    assert names(batcher) == ["small"]


def test_large_jobs_are_not_starved() -> None:
    """Under an endless stream of small jobs a large one waits for one batch of them at most."""
    batcher: Batcher[str] = Batcher(8 * KIB, 10**6, KIB)
    batcher.put(waiting(100, 20, name="large"))
    order = []
    for index in range(3):
        batcher.put(waiting(1, name=f"small {index}"))
        order += names(batcher)

    assert order == ["small 0", "large", "small 1", "small 2"]


def test_late_jobs_are_dropped() -> None:
    """A job whose deadline is over when it is taken is given back as late, and costs the others nothing."""
    batcher: Batcher[str] = Batcher(64 * KIB, 1000, 64 * KIB)
    batcher.put(waiting(4, deadline=10.0, name="late"))
    batcher.put(waiting(4, deadline=10.1, name="in time"))

    batch, late = batcher.take(10.0)
    assert batch is not None
    assert [one.reply for one in batch.waiting] == ["in time"]
    assert [one.reply for one in late] == ["late"]


def test_what_would_not_be_done_in_time_is_not_begun() -> None:
    """Where others wait, a job whose own computing would take it beyond its deadline gives them its place. One that
    is alone is tried: nobody knows how long it takes."""
    batcher: Batcher[str] = Batcher(64 * KIB, 1000, 64 * KIB, cost=lambda job: 2e9)
    batcher.put(waiting(4, deadline=11.0, name="too late"))
    batcher.put(waiting(4, deadline=13.0, name="in time"))
    batcher.put(waiting(4, deadline=13.0, name="too late behind the first"))

    batch, late = batcher.take(10.0)
    assert batch is not None
    assert [one.reply for one in batch.waiting] == ["in time", "too late behind the first"]
    assert [one.reply for one in late] == ["too late"]


@pytest.mark.parametrize(
    ("caller", "left_s", "enters"),
    [
        ("flood", 5.0, False),
        ("flood", 13.0, False),
        ("flood", 14.0, True),
        ("flood", NEVER, True),
        ("other", 0.1, True),
    ],
)
def test_a_line_that_is_too_long_for_a_deadline(caller: str, left_s: float, enters: bool) -> None:
    """A job before which there is more than three quarters of its time in line is refused when it comes, and told how
    long the line is; another caller's has its turn before a flood."""
    batcher: Batcher[str] = Batcher(64 * KIB, 4, 64 * KIB, cost=lambda job: 1e9)
    for _ in range(10):
        batcher.put(waiting(4, caller="flood"), 100.0)
    one = waiting(4, deadline=100.0 + left_s, caller=caller)

    if enters:
        batcher.put(one, 100.0)
    else:
        with pytest.raises(Overloaded) as refused:
            batcher.put(one, 100.0)
        assert refused.value.reason == "OVERLOADED"
        assert refused.value.retry_after_s
        assert float(refused.value.metadata["wait_s"]) == pytest.approx(10.0, rel=0.01)
        assert float(refused.value.metadata["left_s"]) == left_s
    assert len(batcher) == 10 + enters


def test_the_line_is_as_long_as_its_batches_take() -> None:
    """A server that shares its processors is slower than its costs say: that is learnt from what batches took."""
    batcher: Batcher[str] = Batcher(64 * KIB, 4, 64 * KIB, cost=lambda job: 1e9)
    now = 0.0
    for _ in range(60):
        batcher.put(waiting(4))
        batch, _ = batcher.take(now)
        assert batch is not None
        now += 3.0
        batcher.ran(batch, now)
    for _ in range(3):
        batcher.put(waiting(4))

    with pytest.raises(Overloaded, match=r"about 9\.\d\d s"):
        batcher.put(waiting(4, deadline=now + 10.0), now)


def test_small_jobs_do_not_wait_for_the_line_of_large_ones() -> None:
    """A flood of large jobs refuses no small one: it waits for a batch of them at most."""
    batcher: Batcher[str] = Batcher(
        64 * KIB, 1000, KIB, cost=lambda job: 1e9 if job.work_bytes > KIB else 10.0, max_ns=1e9
    )
    for _ in range(10):
        batcher.put(waiting(100, 20))
    batcher.put(waiting(1, deadline=3.0, name="first"), 0.0)
    batcher.put(waiting(1, deadline=3.0, name="second"), 0.0)

    assert names(batcher) == ["first", "second"]


def test_a_large_message_is_refused_before_it_is_read() -> None:
    """Where its size alone says that it will stand in a line that is too long; one that may be small is read first."""
    batcher: Batcher[str] = Batcher(1 << 30, 1 << 30, 1 << 30, cost=lambda job: 1e9, small_ns=25_000.0)
    for _ in range(10):
        batcher.put(waiting(4, caller="flood"))

    batcher.require_time(200 * KIB, Sharer("flood"), 1.0)
    batcher.require_time(300 * KIB, Sharer("flood"), 14.0)
    batcher.require_time(300 * KIB, Sharer("other"), 1.0)
    with pytest.raises(Overloaded):
        batcher.require_time(300 * KIB, Sharer("flood"), 13.0)


def test_abandoned_jobs_are_dropped() -> None:
    """An abandoned job lets go of its bytes at once, and is not taken."""
    batcher: Batcher[str] = Batcher(64 * KIB, 1000, 64 * KIB)
    gone = waiting(4, name="gone")
    batcher.put(gone)
    batcher.put(waiting(4, name="here"))
    gone.abandon()

    assert gone.job is None
    assert names(batcher) == ["here"]
    assert len(batcher) == 0


def test_beside_the_worker() -> None:
    """Small jobs can be taken alone, up to a time that the caller names."""
    batcher: Batcher[str] = Batcher(64 * KIB, 1000, KIB, cost=lambda job: 10.0)
    batcher.put(waiting(100, 20, name="large"))
    for name in "abc":
        batcher.put(waiting(1, name=name))

    batch, _ = batcher.take_small(0.0, 20.0)
    assert batch is not None
    assert [one.reply for one in batch.waiting] == ["a", "b"]
