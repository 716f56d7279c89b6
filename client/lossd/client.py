"""The client that blocks."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self

import grpc

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
        self.channel = grpc.insecure_channel(target.address, options=target.arguments(max_response_bytes))
        # No serializers: bodies are built once for all attempts, and answers parsed after the call.
        self.rpcs: dict[str, Any] = {name: self.channel.unary_unary(path) for name, path in protocol.PATHS.items()}

    def is_ready(self) -> bool:
        """Asked after failures only: the question costs a thread for a moment."""
        states: SimpleQueue[grpc.ChannelConnectivity] = SimpleQueue()
        self.channel.subscribe(states.put)
        try:
            # The first state comes at once, and never where another thread has just closed the channel.
            return states.get(timeout=1.0) is grpc.ChannelConnectivity.READY
        except Empty:
            return False
        finally:
            self.channel.unsubscribe(states.put)


class Client(Methods[Result, Tensor]):
    """Computes losses on a server: `with lossd.Client("127.0.0.1:50051") as client: …`.

    address: `host:port`, `dns:///name:port` (round robin), `unix:path`, or "embedded": a server in this process, ready
    when the constructor returns (needs lossd[server]). timeout: seconds a call may take, retries included.
    max_response_bytes: a larger answer is refused by the server before it is computed.

    Nothing connects before the first call. Thread-safe; a forked child opens its own connection.
    """

    def __init__(
        self, address: str, *, timeout: float = 60.0, max_response_bytes: int = channel.UNLIMITED_BYTES
    ) -> None:
        self._timeout_s = deadline_s(timeout)
        self._max_response_bytes = max_response_bytes
        # By process, since a channel does not survive a fork. A child keeps its parent's, untouched.
        self._connections: dict[int, _Connection] = {}
        self._embedded = Embedded(self, self._connections) if address == channel.EMBEDDED else None
        self._target = channel.target(self._embedded.address if self._embedded else address)
        self._max_message_bytes: int | None = None
        self._closed = False

    def info(self, *, timeout: float | None = None) -> ServerInfo:
        """Version, device, limits and statistics of the server."""
        return info.read(self._info(self._retry(timeout)))

    def health(self, *, timeout: float = 5.0) -> bool:
        """Whether the server says that it serves: one attempt, so Unavailable where it cannot be reached."""
        return protocol.is_serving(self._attempt(protocol.HEALTH, protocol.HEALTH_REQUEST, deadline_s(timeout)))

    def close(self) -> None:
        """Ends the connection; calls that are under way raise Unavailable. A second time does nothing."""
        self._closed = True
        connection = self._connections.pop(os.getpid(), None)
        if connection is not None:
            connection.channel.close()
        if self._embedded is not None:
            self._embedded.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _evaluate(
        self, method: str, operands: tuple[Tensor, ...], options: Mapping[str, Any], timeout: float | None
    ) -> Result:
        start_s = time.perf_counter()
        call = build(method, *operands, **options)
        response = call.response.FromString(self._send(call, timeout))
        return call.parse(response, time.perf_counter() - start_s)

    def _activate(self, method: str, operand: Tensor, options: Mapping[str, Any], timeout: float | None) -> Tensor:
        call = build(method, operand, **options)
        return call.array(call.response.FromString(self._send(call, timeout)))

    def _send(self, call: Call, timeout: float | None) -> bytes:
        retry = self._retry(timeout)
        body = call.body()
        if len(body) > protocol.LARGE_BYTES:
            if self._max_message_bytes is None:
                self._max_message_bytes = self._info(retry).limits.max_message_bytes
            protocol.check_size(len(body), self._max_message_bytes)
        return self._answer(call.rpc, body, retry)

    def _retry(self, timeout: float | None) -> Retry:
        return Retry(self._timeout_s if timeout is None else deadline_s(timeout))

    def _info(self, retry: Retry) -> service_pb2.GetServerInfoResponse:
        return service_pb2.GetServerInfoResponse.FromString(self._answer("GetServerInfo", b"", retry))

    def _answer(self, rpc: str, body: bytes, retry: Retry) -> bytes:
        while True:
            try:
                return self._attempt(rpc, body, retry.remaining_s())
            except Error as error:
                wait_s = retry.wait_s(error)
            time.sleep(wait_s)

    def _attempt(self, rpc: str, body: bytes, timeout_s: float) -> bytes:
        connection = self._connection()
        try:
            answer: bytes = connection.rpcs[rpc](
                body, timeout=timeout_s, metadata=protocol.metadata(len(body), self._max_response_bytes)
            )
            return answer
        except grpc.RpcError as failure:
            # What a unary call raises is a Call too, which the type of RpcError does not say.
            status: Any = failure
            error = from_rpc(status.code(), status.details(), status.trailing_metadata(), self._target.address)
        except ValueError:
            # grpc's word for a channel that was closed by another thread between these lines.
            raise protocol.closed() from None
        if self._closed:
            raise protocol.closed()
        if isinstance(error, DeadlineExceeded) and not connection.is_ready():
            error = protocol.not_connected(self._target.address)
        raise error

    def _connection(self) -> _Connection:
        pid = os.getpid()
        connection = self._connections.get(pid)
        if connection is None:
            if self._closed:
                raise protocol.closed()
            # Whoever comes first: `setdefault` is atomic, and needs no lock that a fork could leave held.
            connection = self._connections.setdefault(pid, _Connection(self._target, self._max_response_bytes))
        return connection
