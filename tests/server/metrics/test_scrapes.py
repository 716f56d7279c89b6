"""What a scrape says is what was done: a real server, its HTTP port, and prometheus_client's parser."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from lossd.v1 import service_pb2 as pb
from lossd_server.backends import Backend
from lossd_server.config.settings import FRONTS, Settings
from lossd_server.metrics.layout import MOST_NAMES
from lossd_server.server import Server
from tests.server.edge import EdgeBackend
from tests.server.messages import bce, cross_entropy
from tests.server.metrics.scraping import Page, http_port, scraped
from tests.server.running import raw, refused, serving, stub
from tests.waiting import until_awaited

Scrape = Callable[[], Awaitable[Page]]
SERVICE = "lossd.v1.LossService"
CROSS_ENTROPY = {"grpc_type": "unary", "grpc_service": SERVICE, "grpc_method": "CrossEntropy"}
STREAM = {"grpc_type": "bidi_stream", "grpc_service": SERVICE, "grpc_method": "Stream"}


@asynccontextmanager
async def scraping(backend: Backend, **settings: Any) -> AsyncIterator[tuple[Server, grpc.aio.Channel, Scrape]]:
    """The server, a channel, and what scrapes it, beside its event loop."""
    front = settings.get("front", Settings().front)
    async with serving(backend, http="0", **settings) as (server, channel):
        with http_port(server.metrics, front=front) as url:

            async def scrape() -> Page:
                return await asyncio.to_thread(scraped, url)

            yield server, channel, scrape


def run(body: Any) -> None:
    asyncio.run(asyncio.wait_for(body(), 120.0))


@pytest.mark.parametrize("front", FRONTS)
def test_calls_by_how_they_ended(front: str) -> None:
    """Calls begun and ended, by code, with one message in and one out where they ended well; seconds for each."""

    async def body() -> None:
        async with scraping(EdgeBackend(), front=front) as (_, channel, scrape):
            for _ in range(5):
                await stub(channel).CrossEntropy(cross_entropy())
            for _ in range(2):
                await refused(raw(channel, "CrossEntropy")(b"\xff"))
            page = await scrape()

            assert page.value("grpc_server_started_total", **CROSS_ENTROPY) == 7
            assert (page.called("CrossEntropy"), page.called("CrossEntropy", "InvalidArgument")) == (5, 2)
            assert page.value("grpc_server_msg_received_total", **CROSS_ENTROPY) == 7
            assert page.value("grpc_server_msg_sent_total", **CROSS_ENTROPY) == 5
            assert page.value("grpc_server_handling_seconds_count", **CROSS_ENTROPY) == 7
            assert page.value("grpc_server_handling_seconds_sum", **CROSS_ENTROPY) > 0

    run(body)


@pytest.mark.parametrize("front", FRONTS)
def test_refusals_by_reason(front: str) -> None:
    """Each refused call has its reason, and is no completed evaluation; none of these is for load."""

    async def body() -> None:
        async with scraping(EdgeBackend(), front=front) as (_, channel, scrape):
            wrong = cross_entropy()
            wrong.target.data = b"\x63" + wrong.target.data[1:]
            wrong.input.shape[0] = 3
            await refused(stub(channel).CrossEntropy(wrong))
            for _ in range(3):
                await refused(raw(channel, "CrossEntropy")(b"\xff"))
            page = await scrape()

            assert page.value("lossd_refused_total", reason="MALFORMED_MESSAGE") == 3
            assert page.total("lossd_refused_total") == 4
            assert page.total("lossd_shed_total") == 0
            assert page.value("lossd_evaluations_total", loss="CrossEntropy", result="failed") == 4

    run(body)


def test_what_is_refused_for_load() -> None:
    """A call for which there is no room is counted as refused, and as shed."""

    async def body() -> None:
        backend = EdgeBackend()
        async with scraping(backend, max_inflight_requests=1, max_admission_wait_s=0.001) as (_, channel, scrape):
            backend.gate.clear()
            first = asyncio.ensure_future(_awaited(stub(channel).CrossEntropy(cross_entropy())))
            await asyncio.to_thread(backend.until_entered)
            await refused(stub(channel).CrossEntropy(cross_entropy()))
            busy = await scrape()
            backend.gate.set()
            await first

            assert busy.value("lossd_shed_total", reason="OVERLOADED") == 1
            assert busy.value("lossd_refused_total", reason="OVERLOADED") == 1
            assert busy.called("CrossEntropy", "ResourceExhausted") == 1

    run(body)


async def _awaited(call: Any) -> Any:
    return await call


def test_what_a_server_holds() -> None:
    """Requests, bytes, connections and limits are those of now, a tenth of a second old at most."""

    async def body() -> None:
        backend = EdgeBackend()
        async with scraping(backend, front="http2", max_inflight_requests=7) as (_, channel, scrape):
            backend.gate.clear()
            call = asyncio.ensure_future(_awaited(stub(channel).CrossEntropy(cross_entropy())))
            await asyncio.to_thread(backend.until_entered)
            page = await scrape()

            async def held() -> bool:
                nonlocal page
                page = await scrape()
                return page.value("lossd_inflight_requests") == 1

            await until_awaited(held, "a scrape knows of the call")
            assert page.value("lossd_inflight_bytes") == len(cross_entropy().SerializeToString())
            assert page.value("lossd_inflight_requests_limit") == 7
            assert page.value("lossd_connections") == 1
            assert page.value("lossd_workers") == 1
            backend.gate.set()
            await call

            async def given_back() -> bool:
                return (await scrape()).value("lossd_inflight_bytes") == 0

            await until_awaited(given_back, "the gauge falls to 0")

    run(body)


def test_evaluations_of_streams() -> None:
    """Messages are counted while a stream is open; its evaluations count by loss, and those that fail by reason."""

    async def body() -> None:
        async with scraping(EdgeBackend()) as (_, channel, scrape):
            stream: Any = channel.stream_stream(f"/{SERVICE}/Stream")()
            wrong = cross_entropy()
            wrong.input.shape[0] = 3
            for number, request in enumerate((cross_entropy(), wrong, cross_entropy())):
                one = pb.StreamRequest(open=pb.Open(evaluation_id=number, cross_entropy=request))
                await stream.write(one.SerializeToString())
                await stream.read()

            async def told() -> bool:
                return (await scrape()).value("grpc_server_msg_sent_total", **STREAM) == 3

            await until_awaited(told, "a scrape knows of the messages")
            page = await scrape()
            assert page.value("grpc_server_msg_received_total", **STREAM) == 3
            assert page.value("grpc_server_started_total", **STREAM) == 1
            assert page.called("Stream") == 0
            assert page.value("lossd_streams") == 1
            assert page.value("lossd_evaluations_total", loss="CrossEntropy", result="completed") == 2
            assert page.value("lossd_evaluations_total", loss="CrossEntropy", result="failed") == 1
            assert page.total("lossd_refused_total") == 1
            await stream.done_writing()
            assert await stream.read() is grpc.aio.EOF
            assert (await scrape()).called("Stream") == 1

    run(body)


def test_calls_that_are_given_up() -> None:
    """A client that cancels, and one whose time is over, are told apart."""

    async def body() -> None:
        backend = EdgeBackend()
        async with scraping(backend) as (_, channel, scrape):
            backend.gate.clear()
            call = stub(channel).CrossEntropy(cross_entropy())
            running = asyncio.ensure_future(_awaited(call))
            await asyncio.to_thread(backend.until_entered)
            call.cancel()
            await asyncio.wait([running])

            async def cancelled() -> bool:
                return (await scrape()).value("lossd_cancelled_total") == 1

            await until_awaited(cancelled, "the server knows")
            late = await refused(stub(channel).CrossEntropy(cross_entropy(), timeout=0.05))
            assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED

            async def over() -> bool:
                page = await scrape()
                ended = ("Canceled", "DeadlineExceeded")
                return sum(page.called("CrossEntropy", code) for code in ended) == 2

            await until_awaited(over, "the server knows of both")
            backend.gate.set()

    run(body)


def test_answers_at_once(numba: Backend) -> None:
    """Small calls like one before, which skip the queue, count as any: by method, loss, batch and row."""

    async def body() -> None:
        async with scraping(numba, front="http2") as (server, channel, scrape):
            for _ in range(10):
                await stub(channel).CrossEntropy(cross_entropy(3, 5))
            for _ in range(4):
                await stub(channel).BCE(bce(16))
            page = await scrape()

            assert sum(server.metrics.words[at] for at in _at_once_buckets()) >= 8
            assert page.value("grpc_server_started_total", **CROSS_ENTROPY) == 10
            assert (page.called("CrossEntropy"), page.called("BCE")) == (10, 4)
            assert page.value("grpc_server_msg_received_total", **CROSS_ENTROPY) == 10
            assert page.value("lossd_evaluations_total", loss="CrossEntropy", result="completed") == 10
            assert page.value("lossd_compute_seconds_count", loss="BCE") == 4
            assert page.value("lossd_queue_wait_seconds_count") == 14
            assert page.value("lossd_batch_requests_sum") == 14
            assert page.value("lossd_batch_requests_count") == 14
            assert page.value("lossd_batch_rows_sum") == 10 * 3 + 4 * 16
            info = (await stub(channel).GetServerInfo(pb.GetServerInfoRequest())).statistics
            assert (info.completed, info.batches, info.rows) == (14, 14, 94)

    run(body)


def _at_once_buckets() -> range:
    from lossd_server.metrics.layout import AT_ONCE, BY_METHOD, METHOD_WORDS, TIMES_WIDTH
    from lossd_server.metrics.methods import PLACES

    first = BY_METHOD + PLACES[f"/{SERVICE}/CrossEntropy"] * METHOD_WORDS + AT_ONCE
    return range(first, first + TIMES_WIDTH - 1)


@pytest.mark.parametrize("front", FRONTS)
def test_methods_that_nobody_has(front: str) -> None:
    """A thousand paths that no method has are one series."""

    async def body() -> None:
        async with scraping(EdgeBackend(), front=front) as (_, channel, scrape):
            before = len((await scrape()).series("grpc_server_started_total"))
            for number in range(1000):
                method: Any = channel.unary_unary(f"/a.Service/Method{number}")
                await refused(method(b""))
            page = await scrape()

            assert page.called("unknown", "Unimplemented") == 1000
            assert len(page.series("grpc_server_started_total")) == before
            assert {labels["grpc_service"] for labels, _ in page.series("grpc_server_handled_total")} == {"unknown"}

    run(body)


def test_identities_without_number() -> None:
    """The first of a thousand names have series of their own; all others share one, and none is lost."""

    async def body() -> None:
        async with scraping(EdgeBackend()) as (server, _, scrape):
            for number in range(1000):
                server.metrics.called(f'name "{number}"\n\\ é' + "x" * 100)
            page = await scrape()
            found = page.series("lossd_identity_requests_total")

            assert len(found) == MOST_NAMES
            assert sum(value for _, value in found) == 1000
            assert page.value("lossd_identity_requests_total", identity="other") == 1000 - (MOST_NAMES - 1)

    run(body)


def test_a_server_that_nobody_scrapes() -> None:
    """Without an HTTP port and other workers no timer runs for gauges; GetServerInfo is of now all the same."""

    async def body() -> None:
        backend = EdgeBackend()
        async with serving(backend) as (server, channel):
            assert server._publisher is None
            backend.gate.clear()
            call = asyncio.ensure_future(_awaited(stub(channel).CrossEntropy(cross_entropy())))
            await asyncio.to_thread(backend.until_entered)
            held = (await stub(channel).GetServerInfo(pb.GetServerInfoRequest())).statistics
            backend.gate.set()
            await call

            assert (held.inflight_requests, held.inflight_bytes) == (1, len(cross_entropy().SerializeToString()))

    run(body)
