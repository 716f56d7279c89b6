"""Memory of metrics: slots of workers, which are added up and outlive them."""

from __future__ import annotations

import asyncio
import gc
import weakref
from bisect import bisect_left
from itertools import pairwise
from typing import Any

import pytest

from lossd_server.call.contract import Routes
from lossd_server.config.settings import Settings
from lossd_server.engine.batch_counts import BatchCounts, count_jobs
from lossd_server.engine.batcher import Batch
from lossd_server.metrics import layout
from lossd_server.metrics.collector import Build, MetricsCollector
from lossd_server.metrics.layout import CODES, TIMES_NS, Gauge
from lossd_server.metrics.memory import clear_gauges, shared, totals_of
from lossd_server.metrics.methods import METHODS, PLACES, UNKNOWN_LOSS
from lossd_server.metrics.table import METRICS, PROCESS
from lossd_server.metrics.worker_metrics import WorkerMetrics, observe
from lossd_server.server import Server
from tests.server.edge import EdgeBackend


def values(metrics: WorkerMetrics, name: str) -> dict[tuple[str, ...], float]:
    """What a scrape says of one name, by its labels' values."""
    collector = MetricsCollector(metrics.all, Build("1", ("device",), "backend"), counts_connections=True)
    return {
        tuple(sample.labels.values()): sample.value
        for family in collector.collect()
        for sample in family.samples
        if sample.name == name
    }


def test_counters_of_all() -> None:
    """Totals are over all slots. A successor counts on from what its slot says, and what is held starts anew."""
    memory = shared(2)
    first, second = WorkerMetrics(0, memory), WorkerMetrics(1, memory)
    for metrics, count in ((first, 5), (second, 7)):
        for _ in range(count):
            metrics.completed("CrossEntropy")
        metrics.failed("BCE")
        metrics.refused(f"REASON_{count}", shed=False)
        metrics.refused("OVERLOADED", shed=True)
        BatchCounts(metrics).count(Batch([], [], 0, 10 * count, count))
        metrics.set({Gauge.INFLIGHT_BYTES: 100})
    clear_gauges(first.all, 0)
    successor = WorkerMetrics(0, memory)
    successor.completed("CrossEntropy")
    successor.refused("OVERLOADED", shed=True)

    assert successor.evaluations() == (13, 2)
    assert successor.batches() == (2, 120)
    assert values(second, "lossd_evaluations_total")["CrossEntropy", "completed"] == 13
    refused = {("REASON_5",): 1, ("REASON_7",): 1, ("OVERLOADED",): 3}
    assert values(second, "lossd_refused_total") == refused
    assert values(second, "lossd_shed_total") == {("REASON_5",): 0, ("REASON_7",): 0, ("OVERLOADED",): 3}
    assert values(second, "lossd_inflight_bytes") == {(): 100}


def test_nothing_is_written_outside_of_a_slot() -> None:
    """Whatever a worker counts, its neighbours' words stay as they are."""
    memory = shared(3)
    all_of_them = [WorkerMetrics(index, memory) for index in range(3)]
    before = [list(metrics.words) for metrics in all_of_them]
    middle = all_of_them[1]
    for number in range(2 * layout.MOST_NAMES):
        middle.refused(f"REASON_{number}" * 20, shed=True)
        middle.called(f"name {number}" * 20)
    for value in (0, 1, 10**15):
        count_jobs(BatchCounts(middle).row, value, value, UNKNOWN_LOSS, value, value, 3)
        middle.transferred(value)
    middle.hold([("name", 5)] * 100)

    assert [list(all_of_them[at].words) for at in (0, 2)] == [before[0], before[2]]


def test_the_table_is_what_a_scrape_has() -> None:
    """Every metric of the table is there, of its kind and with its help and labels, and there is no other."""
    metrics = WorkerMetrics()
    metrics.called("somebody")
    metrics.refused("REASON", shed=True)
    metrics.completed("CrossEntropy")
    count_jobs(BatchCounts(metrics).row, 1, 1, 0, 1, 1, 1)
    metrics.transferred(1)
    metrics.set({Gauge.DEVICE_MEMORY_TOTAL: 1})
    metrics.words[layout.BY_METHOD + layout.STARTED] += 1
    collector = MetricsCollector(metrics.all, Build("1", ("device",), "backend"), counts_connections=True)
    found = {family.name: family for family in collector.collect()}

    assert set(found) == {one.name for one in METRICS}
    for one in METRICS:
        family = found[one.name]
        assert (family.type, family.documentation) == (one.kind, one.help)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(one.labels), one.name
    assert {one.name for one in PROCESS} <= set(found)


def test_every_method_has_its_label() -> None:
    """The methods that a server serves are those that metrics know, with the right type."""

    async def served() -> Routes:
        settings = Settings(listen=("unix:unused",), shared_memory_socket="off", reflection="on")
        return Server(settings, EdgeBackend()).routes

    routes = asyncio.run(served())

    assert set(routes.methods) == set(PLACES) - {METHODS[-1].path}
    assert all(METHODS[PLACES[path]].streams == method.streams for path, method in routes.methods.items())


def test_buckets() -> None:
    """Times from 50 µs to 100 s, none more than 2.5 times the one before; a bound is in its own bucket."""
    assert (TIMES_NS[0], TIMES_NS[-1]) == (50_000, 100_000_000_000)
    assert all(2 <= above / below <= 2.5 for below, above in pairwise(TIMES_NS))
    assert [bisect_left(TIMES_NS, one) for one in (50_000, 50_001, 10**12)] == [0, 1, len(TIMES_NS)]
    assert len(CODES) == 17


def test_totals_fit_the_slot() -> None:
    """One number for each word."""
    assert len(totals_of(WorkerMetrics().all)) == layout.SLOT_WORDS


@pytest.mark.parametrize("value", [0, 1, 50_000, 50_001, 99_999_999, 10**11, 10**11 + 1, 10**17])
def test_compiled_code_counts_as_python_does(value: int) -> None:
    """A value is put into the same bucket, and adds as much to the sum."""
    by_python, compiled = WorkerMetrics(), WorkerMetrics()
    observe(by_python.words, layout.QUEUE_WAIT, TIMES_NS, value, 3)
    observe(by_python.words, layout.BY_LOSS + layout.COMPUTE, TIMES_NS, value + 1, 3)
    observe(by_python.words, layout.BATCH_REQUESTS, layout.REQUESTS, value + 1)
    observe(by_python.words, layout.BATCH_ROWS, layout.ROWS, value)
    count_jobs(BatchCounts(compiled).row, value + 1, value, 0, value, value + 1, 3)

    first = layout.GAUGES_END
    assert list(compiled.words[first:]) == list(by_python.words[first:])


def test_compiled_code_writes_into_memory_that_is_kept() -> None:
    """The row that it is given keeps all that it has addresses of, and nothing else does."""
    metrics = WorkerMetrics()
    memory = weakref.ref(metrics.all.obj)
    counts = BatchCounts(metrics)
    row = counts.row[:]
    del metrics, counts
    gc.collect()
    count_jobs(row, 5, 7, 0, 1, 1, 1)

    words: Any = memory()
    assert words[layout.BATCH_ROWS + layout.histogram_words(layout.ROWS) - 1] == 7
    del row, words
    gc.collect()
    assert memory() is None
