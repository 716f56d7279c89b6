"""The batcher: pure, the clock passed in."""

from __future__ import annotations

from lossd_server.engine.batcher import Batcher, Waiting
from tests.server.messages import job

NEVER = float("inf")
KIB = 1024


def waiting(rows: int, classes: int = 8, deadline: float = NEVER, name: str = "") -> Waiting[str]:
    return Waiting(job(rows, classes), deadline, 0, name)


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
