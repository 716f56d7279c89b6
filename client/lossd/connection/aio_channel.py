"""The asynchronous client's gRPC channel: an attempt of an RPC, the start of a stream, and what their failures mean."""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from lossd.connection.aio_following_channel import open_channel
from lossd.errors import Error, Unavailable, from_rpc
from lossd.fast_path.request_template import Form, result_of
from lossd.options import Transport
from lossd.results import Result
from lossd.rpc import protocol
from lossd.rpc.retry import Retry
from lossd.rpc.target import Target
from lossd.rpc.tracing import begin_span
from lossd.streaming.exchange import Exchange
from lossd.streaming.multiplex_policy import MultiplexPolicy, may_join
from lossd.streaming.multiplexed import SharedStream
from lossd.v1 import service_pb2

if TYPE_CHECKING:
    from lossd.rpc.call_span import CallSpan

# What grpc.aio says of a message that could not be written, in place of the status that ended the call.
_WRITE_FAILED = "Internal error from Core"
# Core hands back what a cancelled stream was doing a moment after it was cancelled, and tells of it nowhere. Where the
# loop is closed by then, another loop of this process (an embedded server's) gets it, and logs an error.
SETTLE_S = 0.01


class Channel:
    """Of one event loop, to one server process.

    server: what the server said of itself, None before it was asked. in_flight: calls under way. wants_server: whether
    small calls would share a stream if it were known what the server takes.
    """

    def __init__(self, target: Target, max_response_bytes: int, lifetime: protocol.Lifetime) -> None:
        self._target = target
        self._address = target.address
        self._max_response_bytes = max_response_bytes
        self._lifetime = lifetime
        self._channel = open_channel(target, max_response_bytes)
        self._authorization = target.credentials.authorization
        # No serializers: bodies are built once for all attempts, and answers parsed after the call.
        self._rpcs: dict[str, Any] = {name: self._channel.unary_unary(path) for name, path in protocol.PATHS.items()}
        self._stream: Any = self._channel.stream_stream(protocol.STREAM)
        self.server: service_pb2.GetServerInfoResponse | None = None
        self.in_flight = 0
        self.wants_server = False
        self._multiplexing = MultiplexPolicy(possible=not target.balanced)
        self._shared: SharedStream | None = None
        self._has_streamed = False

    async def attempt(self, rpc: str, body: bytes, timeout_s: float) -> bytes:
        """The answer's bytes. Raises Error."""
        span = begin_span(protocol.PATHS[rpc], self._address, len(body))
        if span is None:
            return await self._attempt(rpc, body, timeout_s)
        with span:
            return await self._attempt(rpc, body, timeout_s, span)

    async def _attempt(self, rpc: str, body: bytes, timeout_s: float, span: CallSpan | None = None) -> bytes:
        metadata = protocol.metadata(len(body), self._max_response_bytes, self._authorization())
        if span is not None:
            metadata = (*metadata, *span.metadata)
        try:
            answer: bytes = await self._rpcs[rpc](body, timeout=timeout_s, metadata=metadata)
            self._lifetime.reached = True
            return answer
        except grpc.aio.AioRpcError as failure:
            error = self.explain(failure)
            if span is not None:
                span.code = failure.code().value[0]
        except grpc.aio.UsageError:
            # The channel was closed by another task between these lines.
            error = protocol.ended_error(self._lifetime)
        except asyncio.CancelledError:
            # Closing the channel cancels its calls; only a task that is being cancelled itself wants to know.
            task = asyncio.current_task()
            if not self._lifetime.is_over or task is None or task.cancelling():
                raise
            error = protocol.ended_error(self._lifetime)
        raise error

    async def attempt_small(self, form: Form, body: bytes, asked: Transport, retry: Retry, start_s: float) -> Result:
        """The result of a small call, whose request is `body`. Raises Error.

        It goes by the stream that such calls share, or by itself.
        """
        span = begin_span(protocol.PATHS[form.rpc], self._address, len(body))
        # The metadata of a shared stream would name one call's span as that of all.
        alone = span is not None and span.is_sampled
        shared = self._shared_stream(start_s) if not alone and may_join(form, asked) else None
        if shared is not None:
            result = await shared.ask(form, body, start_s, retry.remaining_s())
            if result is not None:
                return result
            # The stream is over: the call goes by itself, or hears why it cannot.
        with span or nullcontext():
            answer = await self._attempt(form.rpc, body, retry.remaining_s(), span)
        return result_of(form, answer, time.perf_counter() - start_s)

    def _shared_stream(self, now_s: float) -> SharedStream | None:
        """The stream that a small call takes which begins now; None where it goes by itself."""
        if self._shared is not None and self._shared.is_open:
            return self._shared
        wants = self._multiplexing.wants(self.in_flight, now_s)
        self.wants_server = wants and self.server is None
        if not wants or self.server is None:
            return None
        try:
            call = self._started(None, self._stream_metadata())
        except Error:
            return None
        self._shared = SharedStream(call, self.server.limits.max_message_bytes, self._shared_ended)
        return self._shared

    def _shared_ended(self, failed: bool, answered: bool) -> None:
        self._multiplexing.ended(failed, answered, time.perf_counter())

    def start(self, exchange: Exchange, timeout_s: float | None) -> Any:
        """A Stream call, for what is said in `exchange`. Raises Error."""
        metadata = self._stream_metadata()
        span = begin_span(protocol.STREAM, self._address)
        if span is None:
            return self._started(timeout_s, metadata)
        call = self._started(timeout_s, (*metadata, *span.metadata))
        span.follow(call, exchange.is_settled)
        return call

    def _stream_metadata(self) -> protocol.Metadata:
        return protocol.stream_metadata(self._max_response_bytes, self._authorization())

    def _started(self, timeout_s: float | None, metadata: protocol.Metadata) -> Any:
        self._has_streamed = True
        try:
            return self._stream(timeout=timeout_s, metadata=metadata)
        except grpc.aio.UsageError:
            # The channel was closed by another task between these lines.
            raise protocol.ended_error(self._lifetime) from None

    def explain(self, failure: BaseException) -> Error:
        """The Error of what an RPC raised, or of an Error."""
        error: Error
        if isinstance(failure, grpc.aio.AioRpcError) and failure.details() == _WRITE_FAILED:
            error = Unavailable(f"{self._address}: the stream broke off", reason=protocol.STREAM_ENDED)
        elif isinstance(failure, grpc.aio.AioRpcError):
            error = from_rpc(failure.code(), failure.details(), failure.trailing_metadata(), self._address)
        else:
            assert isinstance(failure, Error)
            error = failure
        return protocol.explained(error, self._lifetime, self._is_ready, self._target)

    def _is_ready(self) -> bool:
        return self._channel.get_state() is grpc.ChannelConnectivity.READY

    async def close(self) -> None:
        """Ends its calls. A second time does nothing."""
        shared, self._shared = self._shared, None
        if shared is not None:
            await shared.close()
        await self._channel.close()
        if self._has_streamed:
            await asyncio.sleep(SETTLE_S)

    def abandon(self) -> None:
        """Without its loop: grpc closes the channel with the last reference to it, which a shared stream is part of."""
        self._shared = None
