"""The client that is awaited: the verbs and options of `lossd.Client`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping
from types import TracebackType
from typing import Any, Self
from weakref import WeakKeyDictionary

import grpc
import grpc.aio

from lossd import channel, info, protocol
from lossd.embedded import Embedded
from lossd.errors import DeadlineExceeded, Error, from_rpc
from lossd.info import ServerInfo
from lossd.methods import Methods
from lossd.requests import Call, build
from lossd.results import Result
from lossd.retry import Retry, deadline_s
from lossd.tensors import Tensor
from lossd.v1 import service_pb2


class _Connection:
    """One channel, and its RPCs made once."""

    def __init__(self, target: channel.Target, max_response_bytes: int) -> None:
        self.channel = grpc.aio.insecure_channel(target.address, options=target.arguments(max_response_bytes))
        self.rpcs: dict[str, Any] = {name: self.channel.unary_unary(path) for name, path in protocol.PATHS.items()}

    def is_ready(self) -> bool:
        return self.channel.get_state() is grpc.ChannelConnectivity.READY


class Client(Methods[Awaitable[Result], Awaitable[Tensor]]):
    """`async with lossd.aio.Client("127.0.0.1:50051") as client: …`; arguments as `lossd.Client`'s.

    "embedded" blocks the constructor until its server is ready. Cancelling an awaiting task cancels its call on the
    server. A channel belongs to its event loop: a client used in a second loop opens a second one there.
    """

    def __init__(
        self, address: str, *, timeout: float = 60.0, max_response_bytes: int = channel.UNLIMITED_BYTES
    ) -> None:
        self._timeout_s = deadline_s(timeout)
        self._max_response_bytes = max_response_bytes
        self._connections: WeakKeyDictionary[asyncio.AbstractEventLoop, _Connection] = WeakKeyDictionary()
        self._embedded = Embedded(self, self._connections) if address == channel.EMBEDDED else None
        self._target = channel.target(self._embedded.address if self._embedded else address)
        self._max_message_bytes: int | None = None
        self._closed = False

    async def info(self, *, timeout: float | None = None) -> ServerInfo:
        """Version, device, limits and statistics of the server."""
        return info.read(await self._info(self._retry(timeout)))

    async def health(self, *, timeout: float = 5.0) -> bool:
        """Whether the server says that it serves: one attempt, so Unavailable where it cannot be reached."""
        return protocol.is_serving(await self._attempt(protocol.HEALTH, protocol.HEALTH_REQUEST, deadline_s(timeout)))

    async def close(self) -> None:
        """Ends the connection; calls that are under way raise Unavailable. A second time does nothing."""
        self._closed = True
        connection = self._connections.pop(asyncio.get_running_loop(), None)
        if connection is not None:
            await connection.channel.close()
        if self._embedded is not None:
            await asyncio.to_thread(self._embedded.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _evaluate(
        self, method: str, operands: tuple[Tensor, ...], options: Mapping[str, Any], timeout: float | None
    ) -> Result:
        start_s = time.perf_counter()
        call = build(method, *operands, **options)
        response = call.response.FromString(await self._send(call, timeout))
        return call.parse(response, time.perf_counter() - start_s)

    async def _activate(
        self, method: str, operand: Tensor, options: Mapping[str, Any], timeout: float | None
    ) -> Tensor:
        call = build(method, operand, **options)
        return call.array(call.response.FromString(await self._send(call, timeout)))

    async def _send(self, call: Call, timeout: float | None) -> bytes:
        retry = self._retry(timeout)
        body = call.body()
        if len(body) > protocol.LARGE_BYTES:
            if self._max_message_bytes is None:
                self._max_message_bytes = (await self._info(retry)).limits.max_message_bytes
            protocol.check_size(len(body), self._max_message_bytes)
        return await self._answer(call.rpc, body, retry)

    def _retry(self, timeout: float | None) -> Retry:
        return Retry(self._timeout_s if timeout is None else deadline_s(timeout))

    async def _info(self, retry: Retry) -> service_pb2.GetServerInfoResponse:
        return service_pb2.GetServerInfoResponse.FromString(await self._answer("GetServerInfo", b"", retry))

    async def _answer(self, rpc: str, body: bytes, retry: Retry) -> bytes:
        while True:
            try:
                return await self._attempt(rpc, body, retry.remaining_s())
            except Error as error:
                wait_s = retry.wait_s(error)
            await asyncio.sleep(wait_s)

    async def _attempt(self, rpc: str, body: bytes, timeout_s: float) -> bytes:
        connection = self._connection()
        try:
            answer: bytes = await connection.rpcs[rpc](
                body, timeout=timeout_s, metadata=protocol.metadata(len(body), self._max_response_bytes)
            )
            return answer
        except grpc.aio.AioRpcError as failure:
            error = from_rpc(failure.code(), failure.details(), failure.trailing_metadata(), self._target.address)
        except grpc.aio.UsageError:
            # The channel was closed by another task between these lines.
            raise protocol.closed() from None
        except asyncio.CancelledError:
            # Closing the channel cancels its calls; only a task that is being cancelled itself wants to know.
            task = asyncio.current_task()
            if not self._closed or task is None or task.cancelling():
                raise
            raise protocol.closed() from None
        if self._closed:
            raise protocol.closed()
        if isinstance(error, DeadlineExceeded) and not connection.is_ready():
            error = protocol.not_connected(self._target.address)
        raise error

    def _connection(self) -> _Connection:
        loop = asyncio.get_running_loop()
        connection = self._connections.get(loop)
        if connection is None:
            if self._closed:
                raise protocol.closed()
            connection = self._connections[loop] = _Connection(self._target, self._max_response_bytes)
        return connection
