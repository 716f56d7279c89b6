"""What `lossd bench` decides without a clock of its own: schedules, windows, the search, percentiles, batches."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count, islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossd.bench.histogram import Histogram
from lossd.bench.measured import Measured, merged
from lossd.bench.plan import Arrivals, Load, due
from lossd.bench.search import PRECISION, Search
from lossd.bench.stepped import Stepped
from lossd.bench.tally import Answered, Tally
from lossd.bench.windows import LEAST_ANSWERS, Rule, Verdict
from lossd.results import Timing


def window(answers: int = 100, latency_s: float = 0.01, *, seconds: float = 1.0, due: int = 0) -> Tally:
    """A window of equal answers."""
    tally = Tally(seconds=seconds, due=due)
    for _ in range(answers):
        tally.add(answered(latency_s))
    return tally


def answered(latency_s: float, batch_requests: int = 1, batch_rows: int = 8) -> Answered:
    timing = Timing(0.25 * latency_s, 0.5 * latency_s, batch_requests, batch_rows, latency_s)
    return Answered(latency_s, 0.0, 0.0, 0.0, timing, rows=8, elements=128, nbytes=1000)


def test_constant_arrivals_are_evenly_spaced() -> None:
    """The n-th request is due at n / rate: no error adds up."""
    assert list(islice(due(Load(rate=10), seed=0), 4)) == [0.0, 0.1, 0.2, 0.3]
    assert next(islice(due(Load(rate=10), seed=0), 10_000_000, None)) == 1_000_000.0


def test_poisson_arrivals_are_those_of_their_rate() -> None:
    """Intervals have mean and standard deviation 1 / rate."""
    at = np.fromiter(islice(due(Load(rate=50, arrivals="poisson"), seed=1), 20_000), float)

    intervals = np.diff(at, prepend=0.0)
    assert intervals.min() >= 0
    assert intervals.mean() == pytest.approx(1 / 50, rel=0.03)
    assert intervals.std() == pytest.approx(1 / 50, rel=0.03)


@pytest.mark.parametrize("arrivals", ["constant", "poisson"])
def test_a_schedule_is_its_seed(arrivals: Arrivals) -> None:
    """The same seed, the same instants."""
    load = Load(rate=7, arrivals=arrivals)

    assert list(islice(due(load, 3), 100)) == list(islice(due(load, 3), 100))


@given(st.lists(st.floats(2e-6, 3000.0), min_size=1, max_size=300), st.sampled_from([50.0, 90.0, 99.0, 99.9]))
def test_percentiles_are_good_to_half_a_percent(latencies: list[float], percent: float) -> None:
    """Of the nearest rank, over all of the histogram's range; the mean is exact."""
    histogram = Histogram()
    for latency_s in latencies:
        histogram.add(latency_s)

    exact = np.percentile(latencies, percent, method="inverted_cdf")
    assert histogram.percentile_s(percent) == pytest.approx(exact, rel=5e-3)
    assert histogram.mean_s == pytest.approx(sum(latencies) / len(latencies))


def test_a_histogram_of_nothing() -> None:
    """NaN, and no division by zero."""
    assert math.isnan(Histogram().percentile_s(50))
    assert math.isnan(Histogram().mean_s)


def test_latencies_beyond_the_range_are_counted() -> None:
    """In the first and the last bucket; the extremes are exact all the same."""
    histogram = Histogram()
    for latency_s in (0.0, 1e-9, 1e6):
        histogram.add(latency_s)

    assert (histogram.count, histogram.percentile_s(100), histogram.least_s) == (3, 1e6, 0.0)
    assert histogram.percentile_s(50) < 2e-6


def test_histograms_add() -> None:
    """The percentiles of two are those of all their latencies in one."""
    one, other, whole = Histogram(), Histogram(), Histogram()
    for k in range(1, 200):
        (one if k % 3 else other).add(k * 1e-4)
        whole.add(k * 1e-4)
    one.merge(other)

    assert [one.percentile_s(p) for p in (1, 50, 99)] == [whole.percentile_s(p) for p in (1, 50, 99)]
    assert (one.count, one.least_s, one.greatest_s) == (199, 1e-4, 0.0199)


def test_the_mean_batch_counts_a_batch_once() -> None:
    """Nine answers tell of one batch of nine, one of a batch of one: two batches, five requests each on average."""
    tally = Tally(seconds=1.0)
    for size in [9] * 9 + [1]:
        tally.add(answered(0.01, batch_requests=size, batch_rows=8 * size))

    row = Measured(load=Load(concurrency=10), verdict=Verdict.STEADY, elapsed_s=1.0, tally=tally).row()
    assert [row["batch_requests"], row["batch_rows"]] == pytest.approx([5.0, 40.0])


def test_the_stages_add_up_to_the_latency() -> None:
    """wire is what no other stage has."""
    tally = Tally(seconds=1.0)
    tally.add(Answered(0.010, 0.001, 0.002, 0.0005, Timing(0.001, 0.003, 1, 8, 0.009), rows=8, elements=8, nbytes=8))

    assert tally.stages_s["wire"] == pytest.approx(0.0025)
    assert sum(tally.stages_s.values()) == pytest.approx(0.010)


def test_three_windows_that_agree_are_steady() -> None:
    """Within 10 % in throughput and in median latency; windows before the last three do not count."""
    last = [window(100, 0.0100), window(105, 0.0103), window(109, 0.0100)]

    assert Rule().judge(last, 3.0) is Verdict.STEADY
    assert Rule().judge([window(10, 1.0), *last], 4.0) is Verdict.STEADY
    assert Rule().judge(last[:2], 2.0) is Verdict.GOING


@pytest.mark.parametrize(
    "third", [window(120, 0.01), window(100, 0.012), window(0)], ids=["throughput", "latency", "nothing answered"]
)
def test_a_window_that_differs_is_waited_for(third: Tally) -> None:
    """Until the level's time is up: then it is told, and marked."""
    windows = [window(), window(), third]

    assert Rule(max_s=30).judge(windows, 3.0) is Verdict.GOING
    assert Rule(max_s=30).judge(windows, 30.0) is Verdict.NOT_STEADY


def test_random_arrivals_are_no_unsteadiness() -> None:
    """In an open loop throughput is compared with what was due."""
    windows = [window(n, due=n) for n in (80, 100, 120)]

    assert Rule().judge(windows, 3.0) is Verdict.STEADY


def test_a_server_that_answers_nothing_is_given_up() -> None:
    """Three windows of failures, and no waiting for --max-s."""
    windows = [Tally(seconds=1.0) for _ in range(3)]
    for one in windows:
        one.fail("UNAVAILABLE")

    assert Rule().judge(windows, 3.0) is Verdict.HOPELESS


def test_a_level_far_over_the_bound_of_a_search_is_given_up() -> None:
    """Twice the bound in three windows; closer to it the level has its whole time."""
    growing = [window(100, latency_s) for latency_s in (0.011, 0.02, 0.03)]

    assert Rule(p99_s=0.005).judge(growing, 3.0) is Verdict.HOPELESS
    assert Rule(p99_s=0.009).judge(growing, 3.0) is Verdict.GOING


def test_a_window_lasts_until_it_has_answers() -> None:
    """At least window_s and ten answers; never beyond the level's end."""
    rule = Rule(window_s=1.0, max_s=20.0)
    few, enough = window(LEAST_ANSWERS - 1), window(LEAST_ANSWERS)

    assert not rule.full(enough, 0.9, 5.0)
    assert rule.full(enough, 1.0, 5.0)
    assert not rule.full(few, 5.0, 5.0)
    assert rule.full(few, 5.0, 20.0)


def search(first: float, holds: Callable[[float], bool]) -> tuple[Search, list[float]]:
    """A search among rates that `holds` knows, and the rates that it tried."""
    found, tried = Search(first), []
    while found.rate is not None:
        tried.append(found.rate)
        found.tell(holds(found.rate), certain=True)
    return found, tried


@given(st.floats(1.5, 1e5), st.floats(1.0, 1e5))
def test_a_search_finds_the_highest_rate(limit: float, first: float) -> None:
    """Within 5 % below what the server bears (1 % more for rounding), wherever it starts; in some 20 levels."""
    found, tried = search(first, lambda rate: rate <= limit)

    if found.best:
        assert limit / (PRECISION * 1.01) <= found.best <= limit
    else:
        # Halving stops at one a second.
        assert min(tried) < 2.0 or limit < 2.0
    assert len(tried) < 45


def test_a_search_where_no_rate_holds() -> None:
    """Halves down to one a second, and finds 0."""
    found, tried = search(100.0, lambda rate: False)

    assert (found.best, tried[0]) == (0.0, 100.0)
    assert 1.0 <= tried[-1] < 2.0


def test_a_rate_fails_when_it_fails_twice() -> None:
    """One pause of the machine does not end a search; a failure that is certain needs no second look."""
    doubted = Search(100.0)
    doubted.tell(False)
    assert doubted.rate == 100.0
    doubted.tell(True)
    assert doubted.rate == 200.0
    doubted.tell(False, certain=True)

    assert doubted.rate == 141.0


def test_a_rate_that_was_not_kept_has_not_passed() -> None:
    """p99 of the few that were answered says nothing of those that were not."""
    kept, lost = (
        Measured(load=Load(rate=100), verdict=Verdict.STEADY, elapsed_s=3.0, tally=merged(windows), p99_s=0.02)
        for windows in ([window(100)] * 3, [window(90)] * 3)
    )

    assert (kept.passed, lost.passed) == (True, False)
    # Of 300 random arrivals, 270 are no surprise.
    assert replace(lost, load=Load(rate=100, arrivals="poisson")).passed


@pytest.mark.parametrize("change", ["failed", "verdict", "p99_s"])
def test_what_a_rate_must_be_to_pass(change: str) -> None:
    """Nothing failed, steady, p99 under the bound."""
    level = Measured(load=Load(rate=100), verdict=Verdict.STEADY, elapsed_s=1.0, tally=window(), p99_s=0.02)
    assert level.passed

    if change == "failed":
        level.failed["UNAVAILABLE"] = 1
    else:
        other = {"verdict": Verdict.NOT_STEADY, "p99_s": 0.009}[change]
        object.__setattr__(level, change, other)
    assert not level.passed


def test_what_an_awaitable_computes_is_seen_from_outside() -> None:
    """From its start to its first wait, and from its last wait to its end."""
    ticks: Iterator[int] = count()

    async def work() -> str:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return "done"

    async def main() -> tuple[str, float, float]:
        stepped = Stepped(work(), lambda: float(next(ticks)))
        return await stepped, stepped.first_s, stepped.last_s

    assert asyncio.run(main()) == ("done", 1.0, 1.0)


def test_what_an_awaitable_raises_goes_through() -> None:
    """Its own error, and a cancellation thrown into it."""

    async def fail() -> None:
        await asyncio.sleep(0)
        raise KeyError("x")

    async def main() -> asyncio.Task[None]:
        with pytest.raises(KeyError, match="x"):
            await Stepped(fail(), lambda: 0.0)

        async def forever() -> None:
            await Stepped(asyncio.sleep(3600), lambda: 0.0)

        task = asyncio.create_task(forever())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return task

    assert asyncio.run(main()).cancelled()
