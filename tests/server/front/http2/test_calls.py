"""gRPC over HTTP/2: what a call is answered, and what ends it."""

from __future__ import annotations

import asyncio
from math import inf
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossd_server.call.contract import ServerCall, Status
from lossd_server.front.http2.headers.blocks import trailer_block
from tests.server.front.http2 import wire
from tests.server.front.http2.driven import DrivenConnection, exchanged
from tests.server.front.http2.wire import Answer

INVALID_ARGUMENT, DEADLINE_EXCEEDED, UNIMPLEMENTED = 3, 4, 12
OPENED = wire.headers(1, wire.request(), wire.END_HEADERS)


def answered(*parts: bytes) -> Answer:
    """What stream 1 is answered; the connection goes on, which a second call proves."""
    connection = exchanged(wire.HANDSHAKE, *parts, wire.call(101, b"after"))

    assert connection.answers[101].messages == [b"after"]
    return connection.answers[1]


def call(extra: tuple[wire.Field, ...] = (), path: bytes = b"/test/Echo") -> bytes:
    return wire.call(1, b"hello", path=path, extra=extra)


def test_call() -> None:
    """Head, message and trailers: the status is in the trailers, which end the stream."""
    answer = answered(call())

    assert answer.blocks == [{b":status": b"200", b"content-type": b"application/grpc"}, {b"grpc-status": b"0"}]
    assert answer.messages == [b"hello"]
    assert answer.ended


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_message_in_pieces(pieces: int) -> None:
    """Frames have nothing to do with messages: one may be in many."""
    body = wire.message(bytes(range(100)))
    size = -(-len(body) // pieces)
    cuts = [wire.data(1, body[at : at + size]) for at in range(0, len(body), size)]

    assert answered(OPENED, *cuts, wire.data(1, ends=True)).messages == [bytes(range(100))]


def test_messages_in_one_frame() -> None:
    """And many may be in one."""
    opened = wire.headers(1, wire.request(b"/test/EchoAll"), wire.END_HEADERS)
    sent = b"".join(map(wire.message, (b"one", b"", b"three")))

    assert answered(opened + wire.data(1, sent, ends=True)).messages == [b"one", b"", b"three"]


def test_empty_message() -> None:
    """A message of nothing is a message."""
    answer = answered(wire.call(1, b""))

    assert answer.messages == [b""]
    assert answer.status == 0


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(wire.headers(1, wire.request()), id="no message"),
        pytest.param(OPENED + wire.data(1, ends=True), id="no message, ended by DATA"),
        pytest.param(OPENED + wire.headers(1, b""), id="no message, ended by trailers"),
        pytest.param(wire.call(1, b"one", b"two"), id="two messages"),
        pytest.param(call(extra=((b"key-bin", b"*"),)), id="metadata that is no base64"),
        pytest.param(call(extra=((b"grpc-timeout", b"soon"),)), id="a timeout that is none"),
        pytest.param(OPENED + wire.data(1, wire.message(b"hello")[:-1], ends=True), id="a message that is cut"),
        pytest.param(OPENED + wire.data(1, b"\0\0\0", ends=True), id="a prefix that is cut"),
        pytest.param(OPENED + wire.data(1, wire.message(b"hello")[:-1]) + wire.headers(1, b""), id="cut by trailers"),
        pytest.param(OPENED + wire.data(1, wire.message(b"hello", 1), ends=True), id="a compressed message"),
        pytest.param(OPENED + wire.data(1, wire.message(b"hello", 2), ends=True), id="an undefined flag"),
    ],
)
def test_refused(sent: bytes) -> None:
    """A call that is not right is refused by trailers alone, and the connection goes on."""
    answer = answered(sent)

    assert answer.status == INVALID_ARGUMENT
    assert len(answer.blocks) == 1
    assert answer.blocks[0][b":status"] == b"200"
    assert answer.blocks[0][b"content-type"] == b"application/grpc"
    assert answer.body == b""
    assert answer.ended


@pytest.mark.parametrize(
    "path", [b"/test/Nothing", b"/", b"*", b"nothing", b"/test/echo", b"/test/Echo/", b"/\xff\xfe"]
)
def test_unknown_method(path: bytes) -> None:
    """A path that nobody serves is UNIMPLEMENTED."""
    assert answered(call(path=path)).status == UNIMPLEMENTED


def test_compression() -> None:
    """So is compression, before any message, and what is taken is named."""
    answer = answered(wire.headers(1, wire.request(extra=[(b"grpc-encoding", b"gzip")]), wire.END_HEADERS))

    assert answer.status == UNIMPLEMENTED
    assert answer.blocks[0][b"grpc-accept-encoding"] == b"identity"
    assert answer.body == b""


@pytest.mark.parametrize("frames, reset", [(0, None), (3, None), (4, wire.CODES.index("NO_ERROR"))])
def test_refused_early(frames: int, reset: int | None) -> None:
    """A client that is refused hears the status, and what is under way is passed over; if it goes on, it is reset a
    while later.
    """
    refused = wire.headers(1, wire.request(extra=[(b"key-bin", b"*")]), wire.END_HEADERS)
    late = [wire.data(1, bytes(10_000))] * frames
    answer = answered(refused, *late)

    assert answer.status == INVALID_ARGUMENT
    assert answer.ended
    assert answer.reset == reset


@given(text=st.text(max_size=30))
def test_message_of_a_status(text: str) -> None:
    """grpc-message is percent-encoded UTF-8: printable ASCII but the percent sign stands for itself."""
    block = wire.frame(wire.HEADERS, wire.ENDS, 1, trailer_block(Status(3, text)))
    written = wire.answers(wire.parse(block))[1].blocks[0].get(b"grpc-message", b"")

    assert unquote_to_bytes(written) == text.encode()
    assert all(0x20 <= byte <= 0x7E for byte in written)
    plain = [byte for byte in text.encode() if 0x20 <= byte <= 0x7E and byte != 0x25]
    assert len(written) == len(plain) + 3 * (len(text.encode()) - len(plain))


def test_binary_trailers() -> None:
    """Trailers in -bin are base64 without padding, others as they are."""
    block = wire.frame(wire.HEADERS, wire.ENDS, 1, trailer_block(Status(8, "", (("a-bin", b"\xff"), ("b", "text")))))

    assert wire.answers(wire.parse(block))[1].blocks == [{b"grpc-status": b"8", b"a-bin": b"/w", b"b": b"text"}]


class Held:
    """A handler that waits until it is let go, or for a message that does not come."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.call: ServerCall | None = None
        self.cancelled = self.closed = 0

    async def __call__(self, call: ServerCall) -> None:
        self.call = call
        call.on_close(self._close)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def _close(self) -> None:
        self.closed += 1


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def held(extra: tuple[wire.Field, ...] = ()) -> bytes:
    return wire.call(1, b"hello", path=b"/test/Held", extra=extra)


def test_reset_cancels() -> None:
    """RST_STREAM cancels the call's task; nothing is sent on the stream any more, and it is closed once."""

    async def run() -> None:
        handler = Held()
        connection = DrivenConnection(methods={"Held": handler})
        await connection.exchange(wire.HANDSHAKE, held(), wire.rst_stream(1))

        assert handler.cancelled == handler.closed == 1
        assert 1 not in connection.answers
        assert connection.protocol.calls == 0
        connection.lose()

    asyncio.run(run())


@pytest.mark.parametrize("end", ["lost", "fault"])
def test_lost_connection_cancels(end: str) -> None:
    """So does the connection's end, whoever ended it."""

    async def run() -> None:
        handler = Held()
        connection = DrivenConnection(methods={"Held": handler})
        await connection.exchange(wire.HANDSHAKE, held())
        if end == "lost":
            connection.lose()
        else:
            connection.receive(wire.ping(bytes(3)))
        await turns()

        assert handler.cancelled == handler.closed == 1

    asyncio.run(run())


def test_deadline() -> None:
    """A call whose time is over ends with DEADLINE_EXCEEDED, though its handler waits; not before."""

    async def run() -> None:
        handler = Held()
        connection = DrivenConnection(methods={"Held": handler})
        await connection.exchange(wire.HANDSHAKE, held(((b"grpc-timeout", b"10S"),)))
        assert handler.call is not None
        connection.protocol.expire(handler.call.deadline - 0.001)
        await turns()
        assert 1 not in connection.answers

        connection.protocol.expire(handler.call.deadline)
        await turns()
        assert connection.answers[1].status == DEADLINE_EXCEEDED
        assert connection.answers[1].ended
        assert handler.closed == 1
        connection.lose()

    asyncio.run(run())


def test_no_deadline() -> None:
    """A call without a time has none."""

    async def run() -> None:
        handler = Held()
        connection = DrivenConnection(methods={"Held": handler})
        await connection.exchange(wire.HANDSHAKE, held())

        assert handler.call is not None
        assert handler.call.deadline == inf
        handler.go.set()
        await turns()
        assert connection.answers[1].status == 0
        connection.lose()

    asyncio.run(run())


def test_answer_before_the_end() -> None:
    """A call that ends well before its client has said all is answered; what still comes is passed over."""

    async def run() -> None:
        handler = Held()
        handler.go.set()
        connection = DrivenConnection(methods={"Held": handler})
        opened = wire.headers(1, wire.request(b"/test/Held"), wire.END_HEADERS)
        late = wire.data(1, wire.message(b"late")) + wire.data(1, ends=True)
        await connection.exchange(wire.HANDSHAKE, opened, late, wire.call(3, b"x"))

        assert connection.answers[1].status == 0
        assert connection.answers[1].reset is None
        assert connection.answers[3].messages == [b"x"]
        connection.lose()

    asyncio.run(run())
