"""How a request is sent: through the client, alone or by its map, or as a message that was built beforehand."""

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
from lossd.embedded import Embedded
from lossd.errors import Error, from_rpc
from lossd.request.build import Call, build
from lossd.results import Result
from lossd.rpc import protocol
from lossd.rpc import target as channel


@dataclass(frozen=True, slots=True)
class TimedResult:
    """encode_s, reply_s: what the sender computed before it waited, and after."""

    result: Result
    encode_s: float
    reply_s: float


class Sender(Protocol):
    async def send(self, request: Request) -> TimedResult:
        """Raises lossd.Error where the call fails."""


class ThroughClient:
    """What users get: `lossd.aio.Client`, which builds the message, chooses the transport, and repeats."""

    def __init__(self, client: aio.Client, transport: str) -> None:
        self._client = client
        # The client's own default is not named: what it means is the client's business.
        self._options: dict[str, Any] = {} if transport == "auto" else {"transport": transport}

    async def send(self, request: Request) -> TimedResult:
        method = getattr(self._client, request.method)
        stepped: Stepped[Result] = Stepped(
            method(*request.operands, **request.options, **self._options), time.perf_counter
        )
        result = await stepped
        return TimedResult(result, stepped.first_s, stepped.last_s)


class Mapper:
    """Many at a time through `client.map`: small evaluations share messages of one stream."""

    def __init__(self, client: aio.Client, mix: Mix) -> None:
        self._client = client
        self._mix = mix

    def results(self, requests: Iterator[Request], window: int) -> AsyncIterator[Result | Error]:
        """In the requests' order, at most `window` of which are on their way."""
        options: dict[str, Any] = {"reduction": self._mix.reduction}
        if self._mix.gradient:
            options["grad"] = True
        operands = (request.operands for request in requests)
        return self._client.map(self._mix.loss, operands, window=window, errors="yield", **options)


class Raw:
    """Unary messages built once, sent as they are and never repeated: what a client of any language could get."""

    def __init__(self, address: str, timeout_s: float) -> None:
        target = channel.target(address)
        self._address = target.address
        self._timeout_s = timeout_s
        self._channel = grpc.aio.insecure_channel(target.address, options=target.arguments(channel.UNLIMITED_BYTES))
        self._rpcs: dict[str, Any] = {}
        self._built: dict[Request, tuple[Call, bytes]] = {}

    def prepare(self, request: Request) -> None:
        call = build(request.method, *request.operands, **request.options)
        self._built[request] = call, call.body()
        self._rpcs.setdefault(call.rpc, self._channel.unary_unary(protocol.PATHS[call.rpc]))

    async def send(self, request: Request) -> TimedResult:
        call, body = self._built[request]
        start_s = time.perf_counter()
        metadata = protocol.metadata(len(body), channel.UNLIMITED_BYTES)
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
    """The same request of arrays that the server can read where they lie, as far as it has shared memory."""
    operands = []
    for operand in request.operands:
        array = await client.empty(operand.shape, operand.dtype)
        array[...] = operand
        operands.append(array)
    return replace(request, operands=tuple(operands))


class _Owner:
    """Whose end would close an embedded server that nobody closed."""


@contextmanager
def serving(address: str) -> Iterator[str]:
    """The address to connect to: of a server in this process, while the context lasts, for "embedded"."""
    if address != channel.EMBEDDED:
        yield address
        return
    owner = _Owner()
    try:
        server = Embedded(owner, {})
    except ImportError as error:
        raise CommandError(f"{error}; or use a running server: --server ADDRESS") from None
    try:
        yield server.address
    finally:
        server.close()
