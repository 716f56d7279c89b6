"""What comes before anybody asks for it: counted while it is here, and bounded over all connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lossd_server.call.contract import ServerCall
from lossd_server.front.http2.limits import Http2Limits
from lossd_server.front.http2.protocol import ALPN
from lossd_server.front.http2.windows.unclaimed import UnclaimedSum
from tests.server.front.http2 import wire
from tests.server.front.http2.driven import DrivenConnection, connected, shares

LIMITS = Http2Limits(unclaimed_bytes=400_000, silent_stream_bytes=1000)
WINDOW = 65_535
MOST = LIMITS.unclaimed_bytes


async def never(_: ServerCall) -> bytes:
    """Asks for nothing."""
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")


async def announced(call: ServerCall) -> bytes:
    """Asks for its message's size alone, as a call that waits for room."""
    await call.next_size()
    return await never(call)


async def first(call: ServerCall) -> bytes:
    """Takes its first message alone."""
    await call.read()
    return await never(call)


METHODS = {"First": first, "Never": never, "Announced": announced}


def silent(stream_id: int, path: bytes = b"/test/Never", sent: int = 0) -> bytes:
    """A call whose message is not whole."""
    begun = wire.headers(stream_id, wire.request(path), wire.END_HEADERS)
    return begun + (wire.data(stream_id, wire.message(bytes(1 << 20))[:sent]) if sent else b"")


@pytest.mark.parametrize("sent", [0, 1, 5, 6, 1000])
@pytest.mark.parametrize("path", [b"/test/Never", b"/test/Announced"])
def test_what_counts(path: bytes, sent: int) -> None:
    """A call that takes nothing counts, and what is here of its message; until it is reset."""

    async def run() -> None:
        connection = DrivenConnection(LIMITS, METHODS)
        await connection.exchange(wire.HANDSHAKE, silent(1, path, sent), silent(3))
        assert connection.protocol.unclaimed_bytes == 2000 + max(0, sent - 5)
        await connection.exchange(wire.rst_stream(1), wire.rst_stream(3))

        assert connection.protocol.unclaimed_bytes == 0
        connection.lose()

    asyncio.run(run())


def pieces(sent: bytes, size: int) -> list[bytes]:
    return [sent[at : at + size] for at in range(0, len(sent), size)]


@pytest.mark.parametrize(
    "sent",
    [
        wire.call(1, b""),
        wire.call(1, b"message"),
        wire.call(1, b"one", b"two"),
        wire.call(1, bytes(60_000)),
        wire.call(1, b"one", path=b"/test/EchoAll") + wire.call(3, b"", b"three", path=b"/test/EchoAll"),
        wire.call(1, b"nobody's", path=b"/test/Nothing"),
        wire.headers(1, wire.request(b"/test/Nothing"), wire.END_HEADERS) + wire.data(1, wire.message(b"late")),
        wire.headers(1, wire.request()[:20], 0) + wire.continuation(1, wire.request()[20:]) + wire.rst_stream(1),
        wire.headers(1, wire.plain_request(), wire.END_HEADERS) + wire.data(1, bytes(5000)),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_what_does_not_count(sent: bytes, size: int) -> None:
    """What is over leaves nothing behind, however it was cut."""

    async def run() -> None:
        connection = DrivenConnection(LIMITS, METHODS)
        await connection.exchange(wire.HANDSHAKE)
        for piece in pieces(sent, size):
            connection.receive(piece)
        await connection.exchange(wire.rst_stream(1), wire.rst_stream(3) if b"/EchoAll" in sent else b"")

        assert connection.protocol.unclaimed_bytes == 0
        connection.lose()

    asyncio.run(run())


@pytest.mark.parametrize("kept", [wire.headers(1, wire.request(), 0), wire.headers(1, bytes(5000))[:4000]])
def test_parts_of_frames_and_of_header_blocks(kept: bytes) -> None:
    """They count as what they are."""

    async def run() -> None:
        connection = DrivenConnection(LIMITS)
        await connection.exchange(wire.HANDSHAKE, kept)

        assert len(kept) - 9 <= connection.protocol.unclaimed_bytes <= len(kept)
        connection.lose()

    asyncio.run(run())


def attack(connections: int, part: Callable[[int], bytes], parts: int) -> None:
    """Beside attackers that send these parts, one after the other, a call of another connection is answered."""

    async def run() -> None:
        attackers = connected(connections, LIMITS, METHODS)
        bystander = attackers.pop()
        for one in (*attackers, bystander):
            await one.exchange(wire.HANDSHAKE)
        for at in range(parts):
            for one in attackers:
                one.receive(part(2 * at + 1))
                await asyncio.sleep(0)
                held = sum(other.protocol.unclaimed_bytes for other in attackers if not other.transport.closed)
                assert held <= MOST + WINDOW
            await bystander.exchange(wire.call(2 * at + 1, b"good"))

        assert all(answer.messages == [b"good"] for answer in bystander.answers.values())
        assert len(bystander.answers) == parts
        for one in (*attackers, bystander):
            one.lose()
        await asyncio.sleep(0)

    asyncio.run(run())


@pytest.mark.parametrize(
    "connections, part, parts",
    [
        (2, lambda stream_id: silent(stream_id, sent=60_000), 4),  # within one connection's own window
        (2, silent, 1000),
        (41, lambda stream_id: silent(stream_id, sent=60_000), 3),
        (41, lambda stream_id: silent(stream_id, b"/test/Announced", 60_000), 3),
        (101, silent, 10),
        (101, lambda _: wire.headers(1, bytes(9000))[:8000], 1),
    ],
)
def test_the_sum_is_bounded(connections: int, part: Callable[[int], bytes], parts: int) -> None:
    """Of all connections together; who holds little of it is not the one that loses it."""
    attack(connections, part, parts)


def test_what_a_client_is_told() -> None:
    """A call of which nothing was taken is refused, so that it may be repeated; another is told to be calm."""

    async def run() -> None:
        one, other = connected(2, LIMITS, METHODS)
        for connection in (one, other):
            await connection.exchange(wire.HANDSHAKE)
        begun = wire.headers(1, wire.request(b"/test/First"), wire.END_HEADERS) + wire.data(1, wire.message(b"first"))
        await one.exchange(begun, wire.data(1, bytes(60_000)))
        for connection, numbers in ((one, (3, 5, 7)), (other, (1, 3, 5))):
            await connection.exchange(*(silent(stream_id, sent=60_000) for stream_id in numbers))
        codes = [
            [
                (reset.stream_id, wire.CODES[reset.number])
                for reset in connection.frames
                if reset.kind == wire.RST_STREAM
            ]
            for connection in (one, other)
        ]

        assert codes == [[(1, "ENHANCE_YOUR_CALM")], []]
        await one.exchange(*(silent(stream_id, sent=60_000) for stream_id in (9, 11, 13, 15)))
        refused = [one.answers[stream_id].reset for stream_id in (3, 5)]
        assert refused == [wire.CODES.index("REFUSED_STREAM")] * 2
        for connection in (one, other):
            connection.lose()
        await asyncio.sleep(0)

    asyncio.run(run())


class Tls:
    """What ssl says of a connection."""

    def selected_alpn_protocol(self) -> str:
        return ALPN


def seen_from(host: str) -> dict[str, Any]:
    return {"peername": (host, 1234)}


def shown(subject: str) -> dict[str, Any]:
    certificate = {"subject": ((("commonName", subject),),)}
    return {**seen_from("10.0.0.1"), "ssl_object": Tls(), "peercert": certificate}


@pytest.mark.parametrize("one, other", [(seen_from("10.0.0.1"), seen_from("10.0.0.2")), (shown("one"), shown("other"))])
def test_callers_of_connections(one: dict[str, Any], other: dict[str, Any]) -> None:
    """By their certificates, else by their hosts: one's flood from many connections takes nothing of another's."""

    async def run() -> None:
        shared = shares(LIMITS, METHODS, max_connections=50)
        quiet = DrivenConnection(shared=shared, info=other)
        await quiet.exchange(wire.HANDSHAKE, *(silent(stream_id, sent=60_000) for stream_id in (1, 3)))
        flood = [DrivenConnection(shared=shared, info=one) for _ in range(30)]
        for connection in flood:
            await connection.exchange(wire.HANDSHAKE, silent(1, sent=30_000))

        assert quiet.protocol.unclaimed_bytes > 120_000
        assert sum(connection.protocol.unclaimed_bytes for connection in flood) <= MOST - 120_000
        assert any(connection.answers[1].reset for connection in flood if 1 in connection.answers)
        for connection in (quiet, *flood):
            connection.lose()
        await asyncio.sleep(0)

    asyncio.run(run())


class Holding:
    """A holder of the sum's."""

    def __init__(self, size: int, caller: str = "") -> None:
        self.unclaimed_bytes = size
        self.caller = caller

    def shed(self, most_bytes: int) -> None:
        self.unclaimed_bytes = min(self.unclaimed_bytes, most_bytes)


def held_after(*holders: Holding, most: int = 1000) -> list[int]:
    """What each holds after too much was said."""
    bound = UnclaimedSum(most)
    said = [bound.say(holder, holder.unclaimed_bytes) for holder in holders]
    assert not said[-1]
    bound.relieve()
    return [one.unclaimed_bytes for one in holders]


def test_connections_share_what_is_their_callers() -> None:
    """One caller's many connections have no more of it together than another's one."""
    one, many = [Holding(300, "one")], [Holding(90, "many") for _ in range(10)]

    assert held_after(*one, *many) == [300, *[37] * 9, 90]
    # A caller with little keeps it, however many connections the others have.
    assert held_after(Holding(10, "little"), *[Holding(30, f"caller {n % 3}") for n in range(60)])[0] == 10
    # Whoever holds most of a caller's loses first.
    assert held_after(Holding(300, "one"), Holding(700, "two"), Holding(50, "two")) == [300, 187, 50]


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 4)), min_size=1, max_size=40))
def test_nobody_loses_within_its_share(holders: list[tuple[int, int]]) -> None:
    """Whoever loses is above its connection's share, of a caller above its own; what is left is within the bound."""
    most = 1000
    assume(sum(size for size, _ in holders) > most)
    by_caller = {caller: [size for size, of in holders if of == caller and size] for size, caller in holders if size}
    after = held_after(*(Holding(size, str(caller)) for size, caller in sorted(holders)), most=most)

    assert sum(after) <= most
    share = most // 4 * 3 // len(by_caller)
    for (size, caller), left in zip(sorted(holders), after, strict=True):
        if left < size:
            assert sum(by_caller[caller]) > share
            assert left == share // len(by_caller[caller])


def test_shares_of_the_sum() -> None:
    """Those with most lose what is above a share; what was said too late is asked for first."""
    bound = UnclaimedSum(1000)
    holders = [Holding(size) for size in (700, 200, 100, 50)]
    said = [bound.say(holder, holder.unclaimed_bytes) for holder in holders]
    holders[1].unclaimed_bytes = 150  # not said yet
    bound.relieve()
    assert said == [True, True, True, False]
    assert [one.unclaimed_bytes for one in holders] == [700, 150, 100, 50]

    bound.say(holders[2], 0)
    holders[2].unclaimed_bytes = 400
    assert not bound.say(holders[2], 400)
    bound.relieve()
    assert [one.unclaimed_bytes for one in holders] == [187, 150, 187, 50]
