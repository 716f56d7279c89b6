"""The blocking client's gRPC channel: an attempt of an RPC, the start of a stream, and what their failures mean."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import grpc

from lossd.connection.following_channel import open_channel
from lossd.connection.library import state_of
from lossd.errors import Error, from_rpc
from lossd.fast_path.request_template import Form, result_of
from lossd.options import Transport
from lossd.results import Result
from lossd.rpc import protocol
from lossd.rpc.retry import Retry
from lossd.rpc.target import Target
from lossd.rpc.tracing import begin_span
from lossd.streaming.pipe import Pipe
from lossd.v1 import service_pb2

if TYPE_CHECKING:
    from lossd.rpc.call_span import CallSpan


class Channel:
    """Of one process, to one server process. Thread-safe.

    server: what the server said of itself, None before it was asked. in_flight: calls under way; whoever counts them
    holds the pool's lock. wants_server: False, since small calls share no stream here.
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

    def attempt(self, rpc: str, body: bytes, timeout_s: float) -> bytes:
        """The answer's bytes. Raises Error."""
        span = begin_span(protocol.PATHS[rpc], self._address, len(body))
        if span is None:
            return self._attempt(rpc, body, timeout_s)
        with span:
            return self._attempt(rpc, body, timeout_s, span)

    def _attempt(self, rpc: str, body: bytes, timeout_s: float, span: CallSpan | None = None) -> bytes:
        metadata = protocol.metadata(len(body), self._max_response_bytes, self._authorization())
        if span is not None:
            metadata = (*metadata, *span.metadata)
        try:
            answer: bytes = self._rpcs[rpc](body, timeout=timeout_s, metadata=metadata)
            self._lifetime.reached = True
            return answer
        except grpc.RpcError as failure:
            error = self.explain(failure)
            if span is not None:
                span.code = failure.code().value[0]
        except ValueError:
            # grpc's word for a channel that was closed by another thread between these lines.
            error = protocol.ended_error(self._lifetime)
        raise error

    def attempt_small(self, form: Form, body: bytes, asked: Transport, retry: Retry, start_s: float) -> Result:
        """The result of a small call, whose request is `body`. Raises Error.

        It goes by itself whatever `asked` says: on a shared stream it would wait for two other threads.
        """
        answer = self.attempt(form.rpc, body, retry.remaining_s())
        return result_of(form, answer, time.perf_counter() - start_s)

    def start(self, pipe: Pipe, timeout_s: float | None) -> Any:
        """A Stream call that sends what `pipe` iterates over. Raises Error."""
        metadata = protocol.stream_metadata(self._max_response_bytes, self._authorization())
        span = begin_span(protocol.STREAM, self._address)
        if span is None:
            return self._started(pipe, timeout_s, metadata)
        call = self._started(pipe, timeout_s, (*metadata, *span.metadata))
        span.follow(call, pipe.is_settled)
        return call

    def _started(self, pipe: Pipe, timeout_s: float | None, metadata: protocol.Metadata) -> Any:
        try:
            return self._stream(pipe, timeout=timeout_s, metadata=metadata)
        except ValueError:
            # grpc's word for a channel that was closed by another thread between these lines.
            raise protocol.ended_error(self._lifetime) from None

    def explain(self, failure: BaseException) -> Error:
        """The Error of what an RPC raised, or of an Error."""
        if isinstance(failure, grpc.RpcError):
            # What a call raises is a Call too, which the type of RpcError does not say.
            status: Any = failure
            error = from_rpc(status.code(), status.details(), status.trailing_metadata(), self._address)
        else:
            assert isinstance(failure, Error)
            error = failure
        return protocol.explained(error, self._lifetime, self._is_ready, self._target)

    def _is_ready(self) -> bool:
        return state_of(self._channel) is grpc.ChannelConnectivity.READY

    def close(self) -> None:
        """Ends its calls. A second time does nothing."""
        self._channel.close()

    def abandon(self) -> None:
        """As `close`, which does not wait."""
        self._channel.close()
