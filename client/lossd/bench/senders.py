"""Senders of requests: through the client, through its map, or as messages that were built beforehand."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import grpc
import grpc.aio

from lossd import aio, results
from lossd.bench.stepped import Stepped
from lossd.bench.workload import Mix, Request
from lossd.command_error import CommandError
from lossd.connection.aio_following_channel import open_channel
from lossd.embedded import Embedded
from lossd.errors import Error, from_rpc
from lossd.request.build import Call, build
from lossd.results import Result
from lossd.rpc import protocol
from lossd.rpc import target as channel
from lossd.rpc.address import EMBEDDED
from lossd.rpc.credentials import PLAIN, Credentials


@dataclass(frozen=True, slots=True)
class TimedResult:
    """encode_s, reply_s: the sender's computing time before it waited, and after."""

    result: Result
    encode_s: float
    reply_s: float


class Sender(Protocol):
    async def send(self, request: Request) -> TimedResult:
        """Raises lossd.Error where the call fails."""


class ThroughClient:
    """Through `lossd.aio.Client`, as users do: it builds the message, chooses the transport and retries."""

    def __init__(self, client: aio.Client, transport: str) -> None:
        self._client = client
        # "auto" is left to the client's own default.
        self._options: dict[str, Any] = {} if transport == "auto" else {"transport": transport}

    async def send(self, request: Request) -> TimedResult:
        method = getattr(self._client, request.method)
        stepped: Stepped[Result] = Stepped(
            method(*request.operands, **request.options, **self._options), time.perf_counter
        )
        result = await stepped
        return TimedResult(result, stepped.first_s, stepped.last_s)


class Mapper:
    """Many requests at a time through `client.map`: small evaluations share messages of one stream."""

    def __init__(self, client: aio.Client, mix: Mix) -> None:
        self._client = client
        self._mix = mix

    def results(self, requests: Iterator[Request], window: int) -> AsyncIterator[Result | Error]:
        """The results in the requests' order; at most `window` requests are in flight."""
        options: dict[str, Any] = {"reduction": self._mix.reduction}
        if self._mix.gradient:
            options["grad"] = True
        operands = (request.operands for request in requests)
        return self._client.map(self._mix.loss, operands, window=window, errors="yield", **options)


class Raw:
    """Unary messages that are built once and never retried: what a client in any language could reach."""

    def __init__(self, address: str, timeout_s: float, shown: Credentials = PLAIN) -> None:
        target = channel.target(address, credentials=shown)
        self._address = target.address
        self._timeout_s = timeout_s
        self._authorization = shown.authorization
        self._channel = open_channel(target, channel.UNLIMITED_BYTES)
        self._rpcs: dict[str, Any] = {}
        self._built: dict[Request, tuple[Call, bytes]] = {}

    def prepare(self, request: Request) -> None:
        call = build(request.method, *request.operands, **request.options)
        self._built[request] = call, call.body()
        self._rpcs.setdefault(call.rpc, self._channel.unary_unary(protocol.PATHS[call.rpc]))

    async def send(self, request: Request) -> TimedResult:
        call, body = self._built[request]
        start_s = time.perf_counter()
        metadata = protocol.metadata(len(body), channel.UNLIMITED_BYTES, self._authorization())
        try:
            received: bytes = await self._rpcs[call.rpc](body, timeout=self._timeout_s, metadata=metadata)
        except grpc.aio.AioRpcError as failure:
            raise from_rpc(failure.code(), failure.details(), failure.trailing_metadata(), self._address) from None
        end_s = time.perf_counter()
        result = results.read_result(call, received, end_s - start_s)
        return TimedResult(result, 0.0, time.perf_counter() - end_s)

    async def close(self) -> None:
        await self._channel.close()


async def in_shared_memory(client: aio.Client, request: Request) -> Request:
    """The same request with its arrays in shared memory, if the server has any."""
    operands = []
    for operand in request.operands:
        array = await client.empty(operand.shape, operand.dtype)
        array[...] = operand
        operands.append(array)
    return replace(request, operands=tuple(operands))


class _Owner:
    """The owner of an embedded server: garbage collection of it would close the server."""


@contextmanager
def serving(address: str) -> Iterator[str]:
    """The address to connect to; for "embedded", that of a server in this process for as long as the context lasts."""
    if address != EMBEDDED:
        yield address
        return
    owner = _Owner()
    try:
        server = Embedded(owner)
    except ImportError as error:
        raise CommandError(f"{error}; or use a running server: --server ADDRESS") from None
    try:
        yield server.address
    finally:
        server.close()
