"""Collector of prometheus_client: reads all slots when it is scraped, and makes the families of the table of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from lossd_server.metrics import layout, memory, table
from lossd_server.metrics.layout import (
    AT_ONCE,
    BADLY,
    BY_LOSS,
    BY_METHOD,
    CODES,
    COMPUTE,
    HANDLED,
    LOSS_WORDS,
    METHOD_WORDS,
    PLANNED,
    RECEIVED,
    REQUESTS,
    ROWS,
    SENT,
    STARTED,
    TIMES_NS,
    TIMES_WIDTH,
    WELL,
    Gauge,
)  # fmt: skip
from lossd_server.metrics.memory import Words
from lossd_server.metrics.methods import LOSSES, METHODS
from lossd_server.metrics.processes import process_families

SECOND_NS = 1e9
GAUGES = {
    table.INFLIGHT_BYTES: Gauge.INFLIGHT_BYTES,
    table.INFLIGHT_BYTES_LIMIT: Gauge.INFLIGHT_BYTES_LIMIT,
    table.INFLIGHT_REQUESTS: Gauge.INFLIGHT_REQUESTS,
    table.INFLIGHT_REQUESTS_LIMIT: Gauge.INFLIGHT_REQUESTS_LIMIT,
    table.WAITING_REQUESTS: Gauge.WAITING_REQUESTS,
    table.STREAMS: Gauge.STREAMS,
    table.SHARED_MEMORY: Gauge.SHARED_MEMORY_BYTES,
}
Counted = Mapping[tuple[str, ...], float]


@dataclass(slots=True)
class Build:
    """What runs; the device of each worker, their backend and their addresses are known once the kernels are ready."""

    version: str
    devices: tuple[str, ...] = ()
    backend: str = ""
    addresses: tuple[str, ...] = ()


class MetricsCollector(Collector):
    """words: of all workers. counts_connections: whether the front can tell how many it has.

    certificate_ends: asked when the certificates end that new connections get, in Unix seconds, by setting.
    """

    def __init__(
        self,
        words: Words,
        build: Build,
        counts_connections: bool,
        certificate_ends: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        self._words = words
        self._build = build
        self._counts_connections = counts_connections
        self._certificate_ends = certificate_ends

    def collect(self) -> Iterator[Family]:
        words = self._words
        totals = memory.totals_of(words)
        yield from _calls(totals)
        yield from _evaluations(totals)
        for one, gauge in GAUGES.items():
            yield _family(one, {(): totals[gauge]})
        if self._counts_connections:
            yield _family(table.CONNECTIONS, {(): totals[Gauge.CONNECTIONS]})
        yield _family(table.CANCELLED, {(): totals[layout.CANCELLED]})
        yield from _by_name(words, layout.REASON_NAMES, (table.REFUSED, layout.REFUSED), (table.SHED, layout.SHED))
        yield _family(table.HTTP_REFUSED, {(name,): count for name, count in memory.http_refused_of(words).items()})
        yield from _by_name(
            words,
            layout.IDENTITY_NAMES,
            (table.IDENTITY_REQUESTS, layout.IDENTITY_REQUESTS),
            (table.IDENTITY_BYTES, layout.IDENTITY_BYTES),
        )
        yield _family(table.DEVICE_MEMORY, _device_memory(words, self._build.devices))
        pids = [pid for pid in memory.of_each(words, Gauge.PID) if pid]
        yield _family(table.UTILIZATION, {(): totals[Gauge.UTILIZATION] / layout.AS_WORD / len(pids)} if pids else {})
        yield _family(table.WORKERS, {(): len(pids)})
        yield _family(table.RESTARTS, {(): memory.restarts_of(words)})
        ends = self._certificate_ends()
        yield _family(table.CERTIFICATE_EXPIRY, {(setting,): end for setting, end in ends.items()})
        build = self._build
        yield _family(table.BUILD, {(build.version, build.devices[0], build.backend): 1} if build.devices else {})
        yield from process_families(pids)


def _calls(totals: Sequence[int]) -> Iterator[Family]:
    """Of every method, once it was called: all codes of it, so that the first error is seen as an increase."""
    started, received, sent, handled = (dict[tuple[str, ...], float]() for _ in range(4))
    took = HistogramMetricFamily(table.HANDLING.name, table.HANDLING.help, labels=table.HANDLING.labels)
    for place, labels in enumerate(METHODS):
        at = BY_METHOD + place * METHOD_WORDS
        well, badly, at_once = (totals[at + of : at + of + TIMES_WIDTH] for of in (WELL, BADLY, AT_ONCE))
        ended_well = sum(well[:-1]) + sum(at_once[:-1])
        messages = 0 if labels.streams else ended_well
        started[labels] = totals[at + STARTED] + sum(at_once[:-1])
        received[labels] = totals[at + RECEIVED] + messages
        sent[labels] = totals[at + SENT] + messages
        if not started[labels]:
            continue
        codes = list(totals[at + HANDLED : at + HANDLED + len(CODES)])
        codes[0] += ended_well
        handled.update({(*labels, code): count for code, count in zip(CODES, codes, strict=True)})
        all_of_them = [sum(each) for each in zip(well, badly, at_once, strict=True)]
        _add_histogram(took, labels, TIMES_NS, all_of_them, SECOND_NS)
    yield _family(table.STARTED, started)
    yield _family(table.HANDLED, handled)
    yield took
    yield _family(table.RECEIVED, received)
    yield _family(table.SENT, sent)


def _evaluations(totals: Sequence[int]) -> Iterator[Family]:
    """Evaluations, and how they were computed; those by plans waited for nothing."""
    ended: dict[tuple[str, ...], float] = {}
    computed = HistogramMetricFamily(table.COMPUTE.name, table.COMPUTE.help, labels=table.COMPUTE.labels)
    waited = list(totals[layout.QUEUE_WAIT : layout.QUEUE_WAIT + TIMES_WIDTH])
    for place, loss in enumerate(LOSSES):
        at = BY_LOSS + place * LOSS_WORDS
        by_worker, planned = (totals[at + of : at + of + TIMES_WIDTH] for of in (COMPUTE, PLANNED))
        without_wait = sum(planned[:-1])
        waited[0] += without_wait
        ended[loss, "completed"] = totals[at + layout.COMPLETED] + without_wait
        ended[loss, "failed"] = totals[at + layout.FAILED]
        took = [a + b for a, b in zip(by_worker, planned, strict=True)]
        if any(took):
            _add_histogram(computed, (loss,), TIMES_NS, took, SECOND_NS)
    yield _family(table.EVALUATIONS, ended)
    yield computed
    for one, counts, bounds, unit in (
        (table.QUEUE_WAIT, waited, TIMES_NS, SECOND_NS),
        (table.TRANSFER, _at(totals, layout.TRANSFER, TIMES_NS), TIMES_NS, SECOND_NS),
        (table.BATCH_REQUESTS, _at(totals, layout.BATCH_REQUESTS, REQUESTS), REQUESTS, 1.0),
        (table.BATCH_ROWS, _at(totals, layout.BATCH_ROWS, ROWS), ROWS, 1.0),
    ):
        family = HistogramMetricFamily(one.name, one.help)
        if one is not table.TRANSFER or any(counts):
            _add_histogram(family, (), bounds, counts, unit)
        yield family


def _device_memory(words: Words, devices: Sequence[str]) -> Counted:
    """Of each worker whose device has some; the others' have no series."""
    found: dict[tuple[str, ...], float] = {}
    used_of, total_of = (memory.of_each(words, one) for one in (Gauge.DEVICE_MEMORY_USED, Gauge.DEVICE_MEMORY_TOTAL))
    for worker, (used, whole) in enumerate(zip(used_of, total_of, strict=True)):
        if whole:
            device = devices[worker] if worker < len(devices) else ""
            found |= {(str(worker), device, "used"): used, (str(worker), device, "total"): whole}
    return found


def _at(totals: Sequence[int], at: int, bounds: tuple[int, ...]) -> Sequence[int]:
    return totals[at : at + layout.histogram_words(bounds)]


def _by_name(words: Words, names: int, *families: tuple[table.Metric, int]) -> Iterator[Family]:
    """Of labels that workers have named: "other" where anything was counted there."""
    found = memory.by_name(words, names, *(at for _, at in families))
    for i, (one, _) in enumerate(families):
        yield _family(one, {(name,): sums[i] for name, sums in found.items() if name != layout.OTHER or any(sums)})


def _add_histogram(
    family: HistogramMetricFamily, labels: Iterable[str], bounds: tuple[int, ...], counts: Sequence[int], unit: float
) -> None:
    buckets: list[tuple[str, float]] = []
    so_far = 0
    for bound, count in zip((*bounds, float("inf")), counts[:-1], strict=True):
        so_far += count
        buckets.append(("+Inf" if bound == float("inf") else repr(bound / unit), so_far))
    family.add_metric(list(labels), buckets, counts[-1] / unit)


def _family(one: table.Metric, counted: Counted) -> Family:
    make = CounterMetricFamily if one.kind == table.COUNTER else GaugeMetricFamily
    family = make(one.name, one.help, labels=one.labels)
    for labels, value in counted.items():
        family.add_metric(list(labels), value)
    return family
