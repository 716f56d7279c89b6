"""lossd's HTTP/2 protocol on a transport in memory: a test is its client, and says what the calls do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, cast

from lossd_server.call.contract import ServerCall
from lossd_server.errors import InvalidRequest
from lossd_server.front.http2.limits import Http2Limits
from lossd_server.front.http2.protocol import Http2Protocol, Shared
from lossd_server.rpc.dispatch import Dispatcher, ServiceMethod
from tests.server.front.http2 import wire
from tests.server.front.http2.wire import Answer, Received

# Turns of the loop within which calls that wait for nothing have ended.
TURNS = 30


async def echo(call: ServerCall) -> bytes:
    """Its only message."""
    body = await call.read()
    if body is None or await call.read() is not None:
        raise InvalidRequest("not one message", reason="TEST")
    return bytes(body)


async def echo_all(call: ServerCall) -> None:
    """Each of its messages, as it comes."""
    while (body := await call.read()) is not None:
        await call.write(bytes(body))


class MemoryTransport:
    """Takes everything, or pauses when it is told to. info: asyncio's, of the connection."""

    def __init__(self, info: Mapping[str, Any] | None = None) -> None:
        self._info = info or {}
        self.written = bytearray()
        self.closed = False
        self.reading = True
        self.unsent = 0  # what it says that it holds

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written += data

    def writelines(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_write_buffer_limits(self, high: int) -> None:
        assert high > 0

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_reading(self) -> bool:
        return self.reading and not self.closed

    def get_extra_info(self, name: str) -> Any:
        return self._info.get(name)


def shares(
    limits: Http2Limits | None = None, methods: Mapping[str, ServiceMethod] | None = None, max_connections: int = 8
) -> Shared:
    """What connections have in common."""
    dispatcher = Dispatcher()
    for name, method in {"Echo": echo, "EchoAll": echo_all, **(methods or {})}.items():
        dispatcher.add("test", name, method)
    return Shared(dispatcher.routes(), limits or Http2Limits(), max_connections)


def connected(count: int, limits: Http2Limits, methods: Mapping[str, ServiceMethod]) -> list[DrivenConnection]:
    """Connections of one front."""
    shared = shares(limits, methods, count)
    return [DrivenConnection(shared=shared) for _ in range(count)]


class DrivenConnection:
    """One connection. methods: of the service `test`, beside Echo and EchoAll."""

    def __init__(
        self,
        limits: Http2Limits | None = None,
        methods: Mapping[str, ServiceMethod] | None = None,
        shared: Shared | None = None,
        info: Mapping[str, Any] | None = None,
    ) -> None:
        """shared: with other connections, in place of limits and methods. info: as of `MemoryTransport`."""
        self.transport = MemoryTransport(info)
        self.protocol = Http2Protocol(shared or shares(limits, methods))
        self.protocol.connection_made(cast("asyncio.Transport", self.transport))

    def receive(self, data: bytes) -> None:
        """Bytes that come in at once, as far as the protocol takes them at once."""
        rest = memoryview(data)
        while rest and not self.transport.closed:
            buffer = memoryview(self.protocol.get_buffer(len(rest)))
            count = min(len(buffer), len(rest))
            buffer[:count] = rest[:count]
            self.protocol.buffer_updated(count)
            rest = rest[count:]

    async def exchange(self, *parts: bytes) -> list[Received]:
        """All that was sent, once these parts were received one by one and every call has had its turns."""
        for part in parts:
            self.receive(part)
            for _ in range(TURNS):
                await asyncio.sleep(0)
        return self.frames

    @property
    def frames(self) -> list[Received]:
        return list(wire.parse(bytes(self.transport.written)))

    @property
    def answers(self) -> dict[int, Answer]:
        return wire.answers(self.frames)

    def lose(self) -> None:
        self.transport.closed = True
        self.protocol.connection_lost(None)


def exchanged(*parts: bytes, limits: Http2Limits | None = None) -> DrivenConnection:
    """A connection after it has received these parts, one after the other, and lost its client."""

    async def run() -> DrivenConnection:
        connection = DrivenConnection(limits)
        await connection.exchange(*parts)
        connection.protocol.expire(time.monotonic())
        await asyncio.sleep(0)
        connection.lose()
        await asyncio.sleep(0)
        return connection

    return asyncio.run(run())


def outcome(frames: list[Received], stream_id: int = 1) -> str:
    """What became of a connection: its GOAWAY, else the stream's RST_STREAM, else whether the stream was answered."""
    for one in frames:
        if one.kind == wire.GOAWAY:
            return f"GOAWAY {wire.CODES[int.from_bytes(one.payload[4:8], 'big')]}"
    answer = wire.answers(frames).get(stream_id)
    if answer is not None and answer.reset:
        return f"RST_STREAM {wire.CODES[answer.reset]}"
    return "answered" if answer is not None and answer.ended else "passed over"
