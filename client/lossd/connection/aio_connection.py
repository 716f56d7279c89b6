"""The awaitable client's channel: one attempt of an RPC, or the start of a stream, and what its failure means."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import grpc.aio

from lossd.errors import Error, Unavailable, from_rpc
from lossd.rpc import protocol
from lossd.rpc import target as channel
from lossd.rpc.retry import Retry
from lossd.shared_memory.session import SharedMemorySession
from lossd.streaming.multiplex_policy import MultiplexPolicy
from lossd.streaming.multiplexed import SharedStream
from lossd.v1 import service_pb2

# What grpc.aio says of a message that could not be written, in place of the status that ended the call.
_WRITE_FAILED = "Internal error from Core"


class Connection:
    """Of one event loop. As `lossd.connection.connection.Connection`. wants_stream: small calls want one to share."""

    def __init__(self, target: channel.Target, max_response_bytes: int, lifetime: protocol.Lifetime) -> None:
        self._address = target.address
        self._max_response_bytes = max_response_bytes
        self._lifetime = lifetime
        self._channel = grpc.aio.insecure_channel(target.address, options=target.arguments(max_response_bytes))
        self._rpcs: dict[str, Any] = {name: self._channel.unary_unary(path) for name, path in protocol.PATHS.items()}
        self._stream: Any = self._channel.stream_stream(protocol.STREAM)
        self.sharing = SharedMemorySession(target.round_robin)
        self.server: service_pb2.GetServerInfoResponse | None = None
        self.in_flight = 0
        self.wants_stream = False
        self._joining = MultiplexPolicy(possible=not target.round_robin)
        self._shared: SharedStream | None = None

    async def attempt(self, rpc: str, body: bytes, timeout_s: float) -> bytes:
        """The answer's bytes. Raises Error."""
        try:
            answer: bytes = await self._rpcs[rpc](
                body, timeout=timeout_s, metadata=protocol.metadata(len(body), self._max_response_bytes)
            )
            return answer
        except grpc.aio.AioRpcError as failure:
            error = self.explain(failure)
        except grpc.aio.UsageError:
            # The channel was closed by another task between these lines.
            error = protocol.closed_error()
        except asyncio.CancelledError:
            # Closing the channel cancels its calls; only a task that is being cancelled itself wants to know.
            task = asyncio.current_task()
            if not self._lifetime.closed or task is None or task.cancelling():
                raise
            error = protocol.closed_error()
        raise error

    async def answer(self, rpc: str, body: bytes, retry: Retry) -> bytes:
        """As `attempt`, as often as it may be repeated."""
        while True:
            try:
                return await self.attempt(rpc, body, retry.remaining_s())
            except Error as error:
                wait_s = retry.wait_s(error)
            await asyncio.sleep(wait_s)

    async def ask(self, retry: Retry) -> service_pb2.GetServerInfoResponse:
        """What the server says of itself now."""
        return service_pb2.GetServerInfoResponse.FromString(await self.answer("GetServerInfo", b"", retry))

    async def known(self, retry: Retry) -> service_pb2.GetServerInfoResponse:
        """What the server said of itself; it is asked once."""
        server = self.server
        if server is None:
            server = self.server = await self.ask(retry)
        return server

    def shared(self, now_s: float) -> SharedStream | None:
        """The stream that a small call takes which begins now; None where it goes by itself."""
        if self._shared is not None and self._shared.is_open:
            return self._shared
        self.wants_stream = self._joining.wants(self.in_flight, now_s)
        if not self.wants_stream or self.server is None:
            return None
        try:
            call = self.start(None)
        except grpc.aio.UsageError:
            return None  # the channel was closed by another task between these lines
        self._shared = SharedStream(call, self.server.limits.max_message_bytes, self._ended)
        return self._shared

    def _ended(self, failed: bool, answered: bool) -> None:
        self._joining.ended(failed, answered, time.perf_counter())

    def start(self, timeout_s: float | None) -> Any:
        """A Stream call."""
        return self._stream(timeout=timeout_s, metadata=protocol.stream_metadata(self._max_response_bytes))

    def explain(self, failure: BaseException) -> Error:
        """The Error of what an RPC raised, or of an Error."""
        error: Error
        if isinstance(failure, grpc.aio.AioRpcError) and failure.details() == _WRITE_FAILED:
            error = Unavailable(f"{self._address}: the stream broke off", reason="STREAM_ENDED")
        elif isinstance(failure, grpc.aio.AioRpcError):
            error = from_rpc(failure.code(), failure.details(), failure.trailing_metadata(), self._address)
        else:
            assert isinstance(failure, Error)
            error = failure
        return protocol.explained(error, closed=self._lifetime.closed, is_ready=self._is_ready, address=self._address)

    def _is_ready(self) -> bool:
        return self._channel.get_state() is grpc.ChannelConnectivity.READY

    def forget(self) -> None:
        """The server is not the one it was: what is known of it is asked again."""
        self.server = None
        self.sharing.lose()

    async def close(self) -> None:
        if self._shared is not None:
            await self._shared.close()
        await self._channel.close()
        self.sharing.lose()
