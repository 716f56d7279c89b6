"""Time on a connection, and a transport that takes nothing: what is given up, and what waits."""

from __future__ import annotations

import asyncio
import time

import pytest

from lossd_server.call.contract import ServerCall
from lossd_server.front.http2.limits import Http2Limits
from tests.server.front.http2 import wire
from tests.server.front.http2.driven import DrivenConnection

LIMITS = Http2Limits()


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def pings(connection: DrivenConnection) -> int:
    return sum(one.kind == wire.PING and not one.flags for one in connection.frames)


@pytest.mark.parametrize("acknowledged", [True, False])
def test_settings_timeout(acknowledged: bool) -> None:
    """A client that does not acknowledge our SETTINGS is cut, with the code for that."""

    async def run() -> None:
        connection = DrivenConnection()
        await connection.exchange(wire.PREFACE + wire.settings() + wire.SETTINGS_ACK * acknowledged)
        now_s = time.monotonic()
        connection.protocol.expire(now_s + LIMITS.settings_timeout_s - 1.0)
        assert not connection.transport.closed

        connection.protocol.expire(now_s + LIMITS.settings_timeout_s + 0.1)
        codes = [wire.CODES[one.payload[7]] for one in connection.frames if one.kind == wire.GOAWAY]
        assert (connection.transport.closed, codes) == ((False, []) if acknowledged else (True, ["SETTINGS_TIMEOUT"]))
        connection.lose()

    asyncio.run(run())


@pytest.mark.parametrize("answers", [True, False])
def test_keepalive(answers: bool) -> None:
    """A client that is silent is asked by a PING once, and given up if it does not answer."""

    async def run() -> None:
        connection = DrivenConnection()
        await connection.exchange(wire.HANDSHAKE)
        now_s = time.monotonic()
        connection.protocol.expire(now_s + LIMITS.keepalive_s - 1.0)
        assert pings(connection) == 0
        for _ in range(3):
            connection.protocol.expire(now_s + LIMITS.keepalive_s + 0.1)
        assert pings(connection) == 1
        if answers:
            connection.receive(wire.ping(bytes(8), wire.ACK))

        connection.protocol.expire(now_s + LIMITS.keepalive_s + 0.2 + LIMITS.keepalive_timeout_s * (not answers))
        assert connection.transport.closed != answers
        connection.lose()

    asyncio.run(run())


def test_announced_end() -> None:
    """One that is only announced takes calls still: all streams are below its number. A PING tells who has read it."""

    async def run() -> None:
        connection = DrivenConnection()
        await connection.exchange(wire.HANDSHAKE)
        connection.protocol.announce_end()
        await connection.exchange(wire.call(1, b"late"), wire.ping(b"no end!!", wire.ACK))

        (goaway,) = (one for one in connection.frames if one.kind == wire.GOAWAY)
        assert goaway.payload == wire.MOST_WINDOW.to_bytes(4, "big") + bytes(4)
        assert connection.answers[1].messages == [b"late"]
        known = [connection.protocol.end_is_known]
        (asked,) = (one.payload for one in connection.frames if one.kind == wire.PING)
        await connection.exchange(wire.ping(bytes(asked), wire.ACK))
        assert [*known, connection.protocol.end_is_known] == [False, True]
        connection.lose()

    asyncio.run(run())


@pytest.mark.parametrize("window", [0, 3])
@pytest.mark.parametrize("timeout", [b"", b"5S"])
def test_an_answer_that_is_not_read(window: int, timeout: bytes) -> None:
    """Is given up after its time, or at its call's deadline: what is charged for it is given back."""

    async def run() -> None:
        closed = []

        async def answer(call: ServerCall) -> bytes:
            call.on_close(lambda: closed.append(call.method))
            return bytes(1000)

        connection = DrivenConnection(methods={"Answer": answer})
        extra = [(b"grpc-timeout", timeout)] if timeout else []
        opened = wire.settings({wire.INITIAL_WINDOW: window})
        await connection.exchange(wire.HANDSHAKE + opened, wire.call(1, b"", path=b"/test/Answer", extra=extra))
        now_s, bound_s = time.monotonic(), 5.0 if timeout else LIMITS.answer_timeout_s
        connection.protocol.expire(now_s + bound_s - 1.0)
        await turns()
        assert (closed, connection.protocol.calls) == ([], 1)

        connection.protocol.expire(now_s + bound_s + 0.1)
        await turns()
        assert (closed, connection.protocol.calls) == (["/test/Answer"], 0)
        assert connection.answers[1].reset == wire.CODES.index("CANCEL")
        assert not connection.transport.closed
        connection.lose()

    asyncio.run(run())


def test_a_transport_that_takes_nothing() -> None:
    """While it takes nothing, a call that writes waits, and PINGs are answered; then all is sent in order."""
    written = 0

    async def write(call: ServerCall) -> None:
        nonlocal written
        for number in range(10):
            await call.write(bytes([number]) * 1000)
            written += 1

    async def run() -> None:
        connection = DrivenConnection(methods={"Write": write})
        await connection.exchange(wire.HANDSHAKE)
        connection.protocol.pause_writing()
        await connection.exchange(wire.call(1, path=b"/test/Write"), wire.call(3, b"x"), wire.ping())
        assert written == 0
        assert 3 not in {one.stream_id for one in connection.frames if one.kind == wire.DATA}
        assert any(one.kind == wire.PING for one in connection.frames)

        connection.protocol.resume_writing()
        await turns()
        assert written == 10
        assert connection.answers[1].messages == [bytes([number]) * 1000 for number in range(10)]
        assert connection.answers[1].status == 0
        assert connection.answers[3].messages == [b"x"]
        connection.lose()

    asyncio.run(run())


def test_an_answer_is_over_when_it_has_left() -> None:
    """Not when it is handed to a transport that takes no more: what is charged for it is held until then."""

    async def run() -> None:
        closed = []

        async def answer(call: ServerCall) -> bytes:
            call.on_close(lambda: closed.append(call.method))
            connection.protocol.pause_writing()  # the transport has enough with it
            return bytes(1000)

        connection = DrivenConnection(methods={"Answer": answer})
        await connection.exchange(wire.HANDSHAKE, wire.call(1, b"", path=b"/test/Answer"))
        connection.protocol.resume_writing()
        await turns()
        connection.protocol.pause_writing()
        assert closed == ["/test/Answer"]

        await connection.exchange(wire.call(3, b""))
        assert connection.protocol.calls == 1
        connection.protocol.resume_writing()
        await turns()
        assert connection.protocol.calls == 0
        assert connection.answers[3].messages == [b""]
        connection.lose()

    asyncio.run(run())


@pytest.mark.parametrize("moves", [True, False])
def test_a_transport_that_is_stuck(moves: bool) -> None:
    """A client whose socket takes nothing is cut after the time for an answer, though it goes on sending PINGs."""

    async def run() -> None:
        connection = DrivenConnection()
        await connection.exchange(wire.HANDSHAKE)
        connection.protocol.pause_writing()
        connection.transport.unsent = 1000
        now_s = time.monotonic()
        connection.protocol.expire(now_s)
        connection.receive(wire.ping())
        connection.transport.unsent -= moves
        found = []
        for late_s in (-0.1, 0.1):
            connection.protocol.expire(now_s + LIMITS.answer_timeout_s + late_s)
            found.append(connection.transport.closed)

        assert found == [False, not moves]
        connection.lose()

    asyncio.run(run())


def goaways(connection: DrivenConnection) -> list[int]:
    """The last stream that each GOAWAY names."""
    return [int.from_bytes(one.payload[:4], "big") for one in connection.frames if one.kind == wire.GOAWAY]


def test_an_idle_connection_ends() -> None:
    """Though its client answers PINGs: its end is announced, then it takes no calls, then it is closed."""

    async def run() -> None:
        connection = DrivenConnection(Http2Limits(keepalive_s=1e9))
        await connection.exchange(wire.HANDSHAKE, wire.call(1, b"before"))
        idle_s = time.monotonic() + LIMITS.connection_idle_s
        connection.protocol.expire(idle_s - 1.0)
        assert goaways(connection) == []
        connection.protocol.expire(idle_s)
        await connection.exchange(wire.call(3, b"late"))
        (asked,) = (one.payload for one in connection.frames if one.kind == wire.PING)
        await connection.exchange(wire.ping(bytes(asked), wire.ACK))
        connection.protocol.expire(idle_s + 0.1)
        assert goaways(connection) == [wire.MOST_WINDOW, 3]
        closed = [connection.transport.closed]
        connection.protocol.expire(idle_s + 0.2)

        assert [*closed, connection.transport.closed] == [False, True]
        assert [connection.answers[stream_id].messages for stream_id in (1, 3)] == [[b"before"], [b"late"]]
        connection.lose()

    asyncio.run(run())


@pytest.mark.parametrize("moves", ["in", "out", "nothing"])
def test_calls_of_an_old_connection(moves: str) -> None:
    """They go on for as long as something of them moves; one of which nothing does is given up after the grace."""

    async def run() -> None:
        limits = Http2Limits(keepalive_s=1e9, connection_age_s=100.0, answer_timeout_s=1e9)
        connection = DrivenConnection(limits)
        await connection.exchange(wire.HANDSHAKE, wire.settings({wire.INITIAL_WINDOW: 100}))
        opened = wire.headers(1, wire.request(b"/test/EchoAll"), wire.END_HEADERS)
        await connection.exchange(opened, wire.data(1, wire.message(bytes(1000))))
        old_s = time.monotonic() + 200.0
        for now_s in (old_s, old_s + 1.0, old_s + 2.0):
            connection.protocol.expire(now_s)
        for at in range(1, 4):
            if moves == "in":
                await connection.exchange(wire.data(1, wire.message(b"more")))
            elif moves == "out":
                await connection.exchange(wire.window_update(1, 10))
            connection.protocol.expire(old_s + 2.0 + at * (limits.age_grace_s - 1.0))
        await turns()

        assert (connection.answers[1].reset is not None) == (moves == "nothing")
        assert connection.transport.closed == (moves == "nothing")
        connection.lose()
        await turns()

    asyncio.run(run())


def test_an_error_behind_what_is_not_read() -> None:
    """A call that fails says so, though its client does not read: messages that wait are dropped, a part of one is not
    passed for a whole.
    """

    async def run() -> None:
        started = asyncio.Event()

        async def fail(call: ServerCall) -> None:
            writing = asyncio.ensure_future(call.write(bytes(100)))
            await started.wait()
            writing.cancel()
            raise RuntimeError

        answers = []
        for window in (0, 50):
            started.clear()
            connection = DrivenConnection(methods={"Fail": fail})
            opened = wire.settings({wire.INITIAL_WINDOW: window})
            await connection.exchange(wire.HANDSHAKE + opened, wire.call(1, path=b"/test/Fail"))
            started.set()
            await turns()
            answers.append(connection.answers[1])
            connection.lose()

        assert answers[0].status == 13
        assert answers[0].body == b""
        assert answers[1].reset == wire.CODES.index("CANCEL")

    asyncio.run(run())
