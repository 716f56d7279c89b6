"""Every refusal of the port has exactly one ErrorInfo, or is one of gRPC core's own that docs/running.md lists."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import status_pb2
from google.rpc.error_details_pb2 import ErrorInfo

from lossd.errors import Error, NotServed, TooLarge, from_rpc
from lossd.v1 import service_pb2 as service
from tests.server.edge import GLUTTON, POISON, EdgeBackend
from tests.server.front.bare_http2 import BareStatus, bare_call, framed, known
from tests.server.messages import cross_entropy
from tests.server.running import raw, raw_stream, refused, serving, serving_at, stub

PAGE = Path(__file__).parents[3] / "docs" / "running.md"
ROW = re.compile(r"^\| ([A-Z_]+) \| `(.+)` \|", re.MULTILINE)
CORE: list[tuple[str, str]] = ROW.findall(PAGE.read_text(encoding="utf-8"))
MIB = 1 << 20
GOOD = cross_entropy().SerializeToString()
SMOOTHING = service.CrossEntropyRequest(label_smoothing=2.0).SerializeToString()

Refusal = Callable[[Any], Any]  # of a grpc.aio.Channel, whose raw calls its types do not know
OURS: dict[str, tuple[Refusal, str]] = {
    "UNKNOWN_METHOD": (lambda channel: raw(channel, "Guess")(GOOD), "UNIMPLEMENTED"),
    "UNKNOWN_METHOD of another service": (lambda channel: channel.unary_unary("/a.B/C")(GOOD), "UNIMPLEMENTED"),
    "MALFORMED_MESSAGE": (lambda channel: raw(channel, "CrossEntropy")(b"\x0a\xff"), "INVALID_ARGUMENT"),
    "NO_MESSAGE": (lambda channel: raw_stream(channel, "CrossEntropy")(iter(())), "INVALID_ARGUMENT"),
    "MANY_MESSAGES": (lambda channel: raw_stream(channel, "CrossEntropy")(iter((GOOD, GOOD))), "INVALID_ARGUMENT"),
    "MESSAGE_TOO_LARGE": (lambda channel: raw(channel, "CrossEntropy")(bytes(MIB + 9)), "RESOURCE_EXHAUSTED"),
    "MESSAGE_TOO_LARGE announced": (
        lambda channel: raw(channel, "CrossEntropy")(bytes(4 * MIB), metadata=announced(4 * MIB)),
        "RESOURCE_EXHAUSTED",
    ),
    "REQUEST_BYTES_MISMATCH": (
        lambda channel: raw(channel, "CrossEntropy")(GOOD, metadata=announced(7)),
        "INVALID_ARGUMENT",
    ),
    "INVALID_METADATA": (
        lambda channel: raw(channel, "CrossEntropy")(GOOD, metadata=(("lossd-request-bytes", "many"),)),
        "INVALID_ARGUMENT",
    ),
    "RESPONSE_TOO_LARGE": (
        lambda channel: raw(channel, "CrossEntropy")(GOOD, metadata=(("lossd-max-response-bytes", "1"),)),
        "RESOURCE_EXHAUSTED",
    ),
    "OPTION_OUT_OF_RANGE": (
        lambda channel: stub(channel).CrossEntropy(service.CrossEntropyRequest.FromString(GOOD + SMOOTHING)),
        "INVALID_ARGUMENT",
    ),
    "OUT_OF_MEMORY": (
        lambda channel: stub(channel).CrossEntropy(cross_entropy(ignore_index=GLUTTON)),
        "RESOURCE_EXHAUSTED",
    ),
    "INTERNAL": (lambda channel: stub(channel).CrossEntropy(cross_entropy(ignore_index=POISON)), "INTERNAL"),
    "UNKNOWN_SERVICE": (
        lambda channel: channel.unary_unary("/grpc.health.v1.Health/Check")(b"\x0a\x01x"),
        "NOT_FOUND",
    ),
    "MALFORMED_MESSAGE of a stream": (
        lambda channel: channel.stream_unary("/lossd.v1.LossService/Stream")(iter((b"\xff",))),
        "INVALID_ARGUMENT",
    ),
}


def announced(size: int) -> tuple[tuple[str, str], ...]:
    return (("lossd-request-bytes", str(size)),)


def error_infos(error: grpc.aio.AioRpcError) -> list[ErrorInfo]:
    found = []
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = ErrorInfo()
                if detail.Unpack(info):
                    found.append(info)
    return found


@pytest.mark.parametrize("name", OURS)
def test_our_refusals_have_one_error_info(name: str) -> None:
    """Its reason, of our domain; the same server then answers."""
    call, code = OURS[name]

    async def run() -> None:
        async with serving(EdgeBackend(), max_message_bytes=MIB) as (_, channel):
            error = await refused(call(channel))

            assert error.code().name == code
            assert [(one.reason, one.domain) for one in error_infos(error)] == [(name.partition(" ")[0], "lossd")]
            assert (await stub(channel).CrossEntropy(cross_entropy())).summary.count == 4

    asyncio.run(run())


BareRefusal = Callable[[str], Awaitable[BareStatus]]
BARE: dict[str, BareRefusal] = {
    "compressed without saying how": lambda address: bare_call(address, framed(GOOD, 1)),
    "an unknown compression": lambda address: bare_call(address, framed(GOOD, 1), grpc_encoding="zstd"),
    "a compression that is not taken": lambda address: bare_call(address, framed(GOOD, 1), grpc_encoding="gzip"),
    "a time that is none": lambda address: bare_call(address, framed(GOOD), grpc_timeout="soon"),
    "a time that is over": lambda address: bare_call(address, framed(GOOD), grpc_timeout="0m"),
    "binary metadata that is none": lambda address: bare_call(address, framed(GOOD), x_bin="!!!"),
    "a message far over the limit": lambda address: bare_call(address, framed(bytes(16_000))[:1] + b"\0\x40\0\0"),
    "an unknown flag": lambda address: bare_call(address, framed(GOOD, 2)),
    "half a message": lambda address: bare_call(address, framed(GOOD)[:-3]),
    "another content type": lambda address: bare_call(address, framed(GOOD)[:-3], content_type="text/plain"),
}


@pytest.mark.usefixtures("grpcio_alone")  # tests/server/front/http2 has the other front's
@pytest.mark.parametrize("name", BARE)
def test_what_no_client_sends(name: str) -> None:
    """The status has details, or is one of core's own that the page lists; the same server then answers."""

    async def run() -> None:
        async with serving_at(EdgeBackend(), max_message_bytes=MIB) as (_, channel, address):
            status = await BARE[name](address)

            assert status.code is not grpc.StatusCode.OK
            assert status.detailed or known(CORE, status), status
            assert (await stub(channel).CrossEntropy(cross_entropy())).summary.count == 4

    asyncio.run(run())


# What gRPC clients may be told without details: the call, and what our client makes of it.
BY_CORE: dict[str, tuple[Refusal, type[Error]]] = {
    "a message far over the limit": (lambda channel: raw(channel, "CrossEntropy")(bytes(4 * MIB)), TooLarge),
    "compressed": (
        lambda channel: raw(channel, "CrossEntropy")(GOOD, compression=grpc.Compression.Gzip),
        NotServed,
    ),
    "too much metadata": (
        lambda channel: raw(channel, "CrossEntropy")(GOOD, metadata=tuple(("x", "y" * 1000) for _ in range(40))),
        TooLarge,
    ),
}


@pytest.mark.usefixtures("grpcio_alone")  # tests/server/front/http2 has the other front's
@pytest.mark.parametrize("name", BY_CORE)
def test_our_client_makes_sense_of_core(name: str) -> None:
    """A status of core's is on the page, and an error of the right class, whose reason is the code's name."""
    call, kind = BY_CORE[name]

    async def run() -> None:
        async with serving(EdgeBackend(), max_message_bytes=MIB) as (_, channel):
            found = await refused(call(channel))
            error = from_rpc(found.code(), found.details(), found.trailing_metadata(), "host:1")

            assert error_infos(found) == []
            assert known(CORE, BareStatus(found.code(), found.details() or "", False)), found
            assert type(error) is kind
            assert error.reason == found.code().name
            assert (await stub(channel).CrossEntropy(cross_entropy())).summary.count == 4

    asyncio.run(run())


@pytest.mark.usefixtures("grpcio_alone")  # tests/server/front/http2 has the other front's
def test_every_row_of_the_page_is_known_to_happen() -> None:
    """The page lists no status of core's that a test here does not see."""

    async def run() -> None:
        async with serving_at(EdgeBackend(), max_message_bytes=MIB) as (_, channel, address):
            seen = [await call(address) for call in BARE.values()]
            for call, _ in BY_CORE.values():
                error = await refused(call(channel))
                seen.append(BareStatus(error.code(), error.details() or "", False))

            assert [row for row in CORE if not any(known([row], status) for status in seen)] == []

    asyncio.run(run())


def test_many_calls_at_once_are_not_cancelled() -> None:
    """More calls than core holds by default while the loop stands still: each is answered, or told when to retry."""

    async def run() -> None:
        async with serving_at(EdgeBackend()) as (_, _, address):
            options = [("grpc.use_local_subchannel_pool", 1)]
            channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(5)]
            waiting: list[Any] = [raw(channel, "CrossEntropy")(GOOD) for channel in channels for _ in range(900)]
            codes = [await one.code() for one in waiting]
            for channel in channels:
                await channel.close()

            assert set(codes) == {grpc.StatusCode.OK}

    asyncio.run(run())
