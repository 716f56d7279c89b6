"""The access log: one event for each call, which says all but what the call is about."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from lossd.command_line.token_line import add_token
from lossd.v1 import service_pb2 as pb
from lossd.v1 import tensor_pb2
from lossd_server.backends import Backend
from lossd_server.call.contract import Routes
from lossd_server.call.record import CallRecord
from lossd_server.call.request_id import LazyRequestId
from lossd_server.config.logs import LogFormatter
from lossd_server.config.settings import Settings
from lossd_server.server import Server
from lossd_server.telemetry.access_log import AccessLog
from tests.server.edge import POISON, EdgeBackend
from tests.server.messages import cross_entropy
from tests.server.running import finished, raw, refused, serving, stub, until_requests
from tests.server.streaming.conversation import converse, messages, opened
from tests.waiting import until_awaited

BOTH = ("input", "target")
NAMED = (("x-request-id", "step-12"),)
PAGE = Path(__file__).parents[3] / "docs" / "logging.md"
FORMAT = LogFormatter(as_json=True)


class Events:
    """The access log's, as its readers have them."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    @property
    def all(self) -> list[dict[str, Any]]:
        found = [json.loads(FORMAT.format(one)) for one in self._caplog.records]
        return [one for one in found if one["event"] == "call" and not one["method"].endswith("GetServerInfo")]

    async def some(self, count: int) -> list[dict[str, Any]]:
        """So many of them, once they are there: a client has its answer a moment earlier."""
        await until_awaited(lambda: len(self.all) >= count, lambda: f"{count} events; there are {self.all}")
        return self.all


@pytest.fixture
def events(caplog: pytest.LogCaptureFixture) -> Iterator[Events]:
    before = logging.getLogger("lossd_server.telemetry.access_log").level
    yield Events(caplog)
    logging.getLogger("lossd_server.telemetry.access_log").setLevel(before)


def test_a_call_has_one_event(numba: Backend, events: Events) -> None:
    """Who, what, how much and how long; times add up."""

    async def run() -> None:
        request = cross_entropy()
        async with serving(numba, access_log="all") as (_, channel):
            answer = await stub(channel).CrossEntropy(request, metadata=NAMED)
            (event,) = await events.some(1)

            assert event["request_id"] == "step-12"
            assert event["method"] == "/lossd.v1.LossService/CrossEntropy"
            assert "127.0.0.1" in event["peer"]
            assert "identity" not in event
            assert (event["request_bytes"], event["response_bytes"]) == (request.ByteSize(), answer.ByteSize())
            assert (event["code"], event.get("reason")) == ("OK", None)
            assert event["compute_ms"] > 0
            assert event["queue_ms"] + event["compute_ms"] <= event["duration_ms"]

    asyncio.run(run())


def test_calls_that_are_answered_at_once_have_one_too(numba: Backend, events: Events) -> None:
    """The same request again and again takes shorter and shorter ways; each call is logged alike."""

    async def run() -> None:
        request = cross_entropy(3, 7)
        async with serving(numba, access_log="all") as (_, channel):
            for _ in range(4):
                await raw(channel, "CrossEntropy")(request.SerializeToString(), metadata=NAMED)
            found = await events.some(4)

            assert [one["request_id"] for one in found] == ["step-12"] * 4
            assert [one["request_bytes"] for one in found] == [request.ByteSize()] * 4
            assert all(one["response_bytes"] > 0 and one["compute_ms"] > 0 for one in found)
            assert all("127.0.0.1" in one["peer"] for one in found)

    asyncio.run(run())


def test_refused_calls_alone(events: Events) -> None:
    """With `refused` calls that succeed are not logged; those that fail say why, with the caller's request id."""

    async def run() -> None:
        async with serving(EdgeBackend(), access_log="refused") as (_, channel):
            await stub(channel).CrossEntropy(cross_entropy())
            bad = await refused(raw(channel, "CrossEntropy")(b"\x0a\xff", metadata=NAMED))
            (event,) = await events.some(1)

            assert bad.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert (event["code"], event["reason"]) == ("INVALID_ARGUMENT", "MALFORMED_MESSAGE")
            assert event["request_id"] == "step-12"

    asyncio.run(run())


def test_a_stream_has_one_event(events: Events) -> None:
    """Its bytes are those of its messages; evaluations that failed alone are counted, and make it a refused one."""

    async def run() -> None:
        good, wrong = cross_entropy(), cross_entropy(ignore_index=POISON)
        sent = [*messages(good, 1, BOTH, [0, 2, 4]), *messages(wrong, 2, BOTH, [0, 4])]
        sent += [pb.StreamRequest(open=opened(wrong, 3)), pb.StreamRequest(open=opened(good, 4))]
        async with serving(EdgeBackend(), access_log="refused") as (_, channel):
            received = await converse(channel, sent)
            (event,) = await events.some(1)

            assert event["code"] == "OK"
            assert (event["failed_evaluations"], event["reason"]) == (2, "INTERNAL")
            assert event["request_bytes"] == sum(one.ByteSize() for one in sent)
            assert event["response_bytes"] == sum(one.ByteSize() for one in received)

    asyncio.run(run())


def test_calls_that_nobody_waits_for(events: Events) -> None:
    """A call that its client cancelled, and one whose time was over, end with their own codes."""

    async def run() -> None:
        backend = EdgeBackend()
        async with serving(backend, access_log="refused") as (_, channel):
            backend.gate.clear()
            try:
                call: Any = stub(channel).CrossEntropy(cross_entropy())
                waiting = finished(call)
                await until_requests(channel, 1)
                waiting.cancel()
                (cancelled,) = await events.some(1)
                late = await refused(stub(channel).CrossEntropy(cross_entropy(), timeout=0.05))
                (_, over) = await events.some(2)
            finally:
                backend.gate.set()

            assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert (cancelled["code"], over["code"]) == ("CANCELLED", "DEADLINE_EXCEEDED")

    asyncio.run(run())


def test_callers_have_their_names(numba: Backend, events: Events, tmp_path: Path) -> None:
    """As the file of tokens has it, on the short way too; whoever is refused has none."""

    async def run() -> None:
        token = add_token("trainer", tmp_path / "tokens")
        shown = (("authorization", f"Bearer {token}"),)
        body = cross_entropy(2, 9).SerializeToString()
        async with serving(numba, access_log="all", tokens=str(tmp_path / "tokens")) as (_, channel):
            for _ in range(4):
                await raw(channel, "CrossEntropy")(body, metadata=shown)
            await refused(raw(channel, "CrossEntropy")(body))
            found = await events.some(5)

            assert [one.get("identity") for one in found] == ["trainer"] * 4 + [None]
            assert found[-1]["reason"] == "NO_CREDENTIALS"

    asyncio.run(run())


def test_neither_tensors_nor_tokens(
    events: Events, caplog: pytest.LogCaptureFixture, numba: Backend, tmp_path: Path
) -> None:
    """Nothing that the server logs, at any level, has a number of a tensor or a token, whatever becomes of the call."""

    async def run() -> None:
        token = add_token("trainer", tmp_path / "tokens")
        shown = (("authorization", f"Bearer {token}"),)
        number = tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[2, 1], data=b"LEAKLEAK")
        good = pb.EntropyRequest(input=number)
        wrong = pb.EntropyRequest(input=number, base=-1.0)
        for backend in (numba, EdgeBackend()):
            async with serving(backend, access_log="all", tokens=str(tmp_path / "tokens")) as (_, channel):
                for _ in range(3):
                    await raw(channel, "Entropy")(good.SerializeToString(), metadata=shown)
                await refused(raw(channel, "Entropy")(wrong.SerializeToString(), metadata=shown))
                await refused(raw(channel, "Entropy")(good.SerializeToString(), metadata=(*shown, *shown)))
                await refused(raw(channel, "Entropy")(good.SerializeToString(), metadata=((shown[0][0], token),)))
                await refused(raw(channel, "Entropy")(b"LEAK" * 9, metadata=shown))
                bug = cross_entropy(ignore_index=POISON).SerializeToString() if backend is not numba else b"LEAK"
                await refused(raw(channel, "CrossEntropy")(bug, metadata=shown))
        await events.some(16)
        text = "\n".join(FORMAT.format(one) for one in caplog.records)

        assert '"code": "INTERNAL"' in text
        assert token not in text
        assert "Bearer" not in text
        assert "LEAK" not in text

    with caplog.at_level(logging.DEBUG, logger="lossd_server"):
        asyncio.run(run())


def test_a_method_of_any_length_is_one_short_line(events: Events) -> None:
    """Clients choose their paths: a long one is shortened."""

    async def run() -> None:
        async with serving(EdgeBackend(), access_log="refused") as (_, channel):
            call: Any = channel.unary_unary("/x/" + "y" * 5000)
            await refused(call(b""))
            (event,) = await events.some(1)

            assert len(event["method"].encode()) <= 256

    asyncio.run(run())


def test_the_page_has_every_field(caplog: pytest.LogCaptureFixture, events: Events) -> None:
    """The table in docs/logging.md names what an event may have, and nothing else."""
    record = CallRecord("/a/b", (), "peer", LazyRequestId(()), 0)
    record.evaluation_failed("REASON")
    record.ended(0, "", "trainer")
    AccessLog(every=True)(record)
    (event,) = events.all
    table = re.findall(r"^\| (`.+?) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)

    assert set(event) - {"time", "level", "event", "logger"} == set(re.findall(r"`(\w+)`", " ".join(table)))


def test_nothing_is_in_the_way_where_nobody_looks_on() -> None:
    """Without a log and without traces calls go to their handlers themselves."""

    async def run() -> None:
        server = Server(Settings(listen=("127.0.0.1:0",)), EdgeBackend())
        watched = Server(Settings(listen=("127.0.0.1:0",), access_log="refused"), EdgeBackend())

        def places(routes: Routes) -> set[str]:
            return {one.handler.__module__ for one in routes.methods.values()}

        assert places(server.routes) == {"lossd_server.rpc.call_metrics"}
        assert places(watched.routes) == {"lossd_server.telemetry.recorded_routes"}
        assert watched.routes.at_once.__module__ == "lossd_server.rpc.call_metrics"  # those never fail
        for one in (server, watched):
            await one.stop(1.0, linger_s=0.0)

    asyncio.run(run())
