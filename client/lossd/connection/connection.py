"""The blocking client's channel: one attempt of an RPC, or the start of a stream, and what its failure means."""

from __future__ import annotations

import time
from queue import Empty, SimpleQueue
from typing import Any

import grpc

from lossd.errors import Error, from_rpc
from lossd.rpc import protocol
from lossd.rpc import target as channel
from lossd.rpc.retry import Retry
from lossd.shared_memory.session import SharedMemorySession
from lossd.streaming.stream import Pipe
from lossd.v1 import service_pb2


class Connection:
    """Of one process. server: what the server said of itself, None before it was asked."""

    def __init__(self, target: channel.Target, max_response_bytes: int, lifetime: protocol.Lifetime) -> None:
        self._address = target.address
        self._max_response_bytes = max_response_bytes
        self._lifetime = lifetime
        self._channel = grpc.insecure_channel(target.address, options=target.arguments(max_response_bytes))
        # No serializers: bodies are built once for all attempts, and answers parsed after the call.
        self._rpcs: dict[str, Any] = {name: self._channel.unary_unary(path) for name, path in protocol.PATHS.items()}
        self._stream: Any = self._channel.stream_stream(protocol.STREAM)
        self.sharing = SharedMemorySession(target.round_robin)
        self.server: service_pb2.GetServerInfoResponse | None = None
        self.in_flight = 0

    def attempt(self, rpc: str, body: bytes, timeout_s: float) -> bytes:
        """The answer's bytes. Raises Error."""
        try:
            answer: bytes = self._rpcs[rpc](
                body, timeout=timeout_s, metadata=protocol.metadata(len(body), self._max_response_bytes)
            )
            return answer
        except grpc.RpcError as failure:
            error = self.explain(failure)
        except ValueError:
            # grpc's word for a channel that was closed by another thread between these lines.
            error = protocol.closed_error()
        raise error

    def answer(self, rpc: str, body: bytes, retry: Retry) -> bytes:
        """As `attempt`, as often as it may be repeated."""
        while True:
            try:
                return self.attempt(rpc, body, retry.remaining_s())
            except Error as error:
                wait_s = retry.wait_s(error)
            time.sleep(wait_s)

    def ask(self, retry: Retry) -> service_pb2.GetServerInfoResponse:
        """What the server says of itself now."""
        return service_pb2.GetServerInfoResponse.FromString(self.answer("GetServerInfo", b"", retry))

    def known(self, retry: Retry) -> service_pb2.GetServerInfoResponse:
        """What the server said of itself; it is asked once."""
        server = self.server
        if server is None:
            server = self.server = self.ask(retry)
        return server

    def start(self, pipe: Pipe, timeout_s: float | None) -> Any:
        """A Stream call that sends what `pipe` iterates over."""
        metadata = protocol.stream_metadata(self._max_response_bytes)
        return self._stream(pipe, timeout=timeout_s, metadata=metadata)

    def explain(self, failure: BaseException) -> Error:
        """The Error of what an RPC raised, or of an Error."""
        if isinstance(failure, grpc.RpcError):
            # What a call raises is a Call too, which the type of RpcError does not say.
            status: Any = failure
            error = from_rpc(status.code(), status.details(), status.trailing_metadata(), self._address)
        else:
            assert isinstance(failure, Error)
            error = failure
        return protocol.explained(error, closed=self._lifetime.closed, is_ready=self._is_ready, address=self._address)

    def _is_ready(self) -> bool:
        """Asked after failures only: the question costs a thread for a moment."""
        states: SimpleQueue[grpc.ChannelConnectivity] = SimpleQueue()
        self._channel.subscribe(states.put)
        try:
            # The first state comes at once, and never where another thread has just closed the channel.
            return states.get(timeout=1.0) is grpc.ChannelConnectivity.READY
        except Empty:
            return False
        finally:
            self._channel.unsubscribe(states.put)

    def forget(self) -> None:
        """The server is not the one it was: what is known of it is asked again."""
        self.server = None
        self.sharing.lose()

    def close(self) -> None:
        self._channel.close()
        self.sharing.lose()
