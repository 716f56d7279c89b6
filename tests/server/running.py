"""A real server on a real socket for the time of a block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest
from google.rpc import status_pb2
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo

from lossd.v1.service_pb2 import GetServerInfoRequest
from lossd.v1.service_pb2_grpc import LossServiceStub
from lossd_server.backends import Backend
from lossd_server.config.settings import Settings
from lossd_server.server import Server
from tests.waiting import until_awaited


@asynccontextmanager
async def serving(backend: Backend, **settings: Any) -> AsyncIterator[tuple[Server, grpc.aio.Channel]]:
    """The server, on a port of its own, and a channel to it."""
    async with serving_at(backend, **settings) as (server, channel, _):
        yield server, channel


@asynccontextmanager
async def serving_at(backend: Backend, **settings: Any) -> AsyncIterator[tuple[Server, grpc.aio.Channel, str]]:
    """The same, and the port's address."""
    server = Server(Settings(listen=("127.0.0.1:0",), **settings), backend)
    (address,) = await server.start()
    try:
        async with grpc.aio.insecure_channel(address, options=[("grpc.max_send_message_length", -1)]) as channel:
            yield server, channel, address
    finally:
        await server.stop(10.0, linger_s=0.0)


def another(address: str) -> grpc.aio.Channel:
    """A channel with a connection of its own."""
    return grpc.aio.insecure_channel(
        address, options=[("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    )


def stub(channel: grpc.aio.Channel) -> Any:
    """The generated stub, whose annotation is the synchronous one."""
    return LossServiceStub(channel)


def details(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """What the status carries, by the name of its type."""
    found: dict[str, Any] = {}
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                for kind in (ErrorInfo, BadRequest, RetryInfo):
                    message = kind()
                    if detail.Unpack(message):
                        found[kind.__name__] = message
    return found


def raw(channel: grpc.aio.Channel, rpc: str) -> Any:
    """The RPC from bytes to bytes."""
    return channel.unary_unary(f"/lossd.v1.LossService/{rpc}")


def raw_stream(channel: grpc.aio.Channel, rpc: str) -> Any:
    """The same as a client that may send any number of messages sees it."""
    return channel.stream_unary(f"/lossd.v1.LossService/{rpc}")


async def refused(call: Any) -> grpc.aio.AioRpcError:
    """The error that the call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def finished(call: Any) -> asyncio.Future[Any]:
    """The call's end, awaited from now on."""

    async def end() -> Any:
        return await call

    return asyncio.ensure_future(end())


async def held(channel: grpc.aio.Channel) -> tuple[int, int]:
    """Bytes and requests that the server holds."""
    statistics = (await stub(channel).GetServerInfo(GetServerInfoRequest())).statistics
    return statistics.inflight_bytes, statistics.inflight_requests


async def until_held(channel: grpc.aio.Channel, expected: tuple[int, int]) -> None:
    """Waits until the server holds these bytes and requests."""
    await _until(channel, lambda now: now == expected, f"{expected}")


async def until_requests(channel: grpc.aio.Channel, least: int) -> None:
    """Waits until the server holds at least so many requests."""
    await _until(channel, lambda now: now[1] >= least, f"{least} requests")


async def until_bytes(channel: grpc.aio.Channel, least: int) -> None:
    """Waits until the server holds at least so many bytes."""
    await _until(channel, lambda now: now[0] >= least, f"{least} bytes")


async def settled(channel: grpc.aio.Channel, questions: int) -> tuple[int, int]:
    """What the server holds when it holds the same after so many questions more."""
    seen = (-1, -1)

    async def same() -> bool:
        nonlocal seen
        before, seen = seen, await held(channel)
        for _ in range(questions):
            await held(channel)
        return seen == before

    await until_awaited(same, lambda: f"what the server holds comes to rest; now {seen}")
    return seen


async def _until(channel: grpc.aio.Channel, holds: Callable[[tuple[int, int]], bool], what: str) -> None:
    now = (-1, -1)

    async def found() -> bool:
        nonlocal now
        now = await held(channel)
        return holds(now)

    await until_awaited(found, lambda: f"the server holds {what}; it holds {now}")
