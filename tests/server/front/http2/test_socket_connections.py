"""Many connections on real sockets, and more than are taken."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.server.front.http2 import wire
from tests.server.front.http2.driven import outcome
from tests.server.front.http2.listening import KINDS, RawClient, listening
from tests.waiting import until_awaited

kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
def test_many_connections(kind: str, tmp_path: Path) -> None:
    """Many at once are served, each by itself."""

    async def run() -> None:
        async with listening(tmp_path) as (_, addresses):
            clients = [await RawClient.connect(addresses[kind]) for _ in range(200)]
            for number, client in enumerate(clients):
                await client.send(wire.HANDSHAKE + wire.call(1, b"%d" % number))
            for number, client in enumerate(clients):
                await client.turn()
                while outcome(client.frames) != "answered":
                    await client.turn()
                assert wire.answers(client.frames)[1].messages == [b"%d" % number]
                client.close()

    asyncio.run(run())


@kinds
def test_too_many_connections(kind: str, tmp_path: Path) -> None:
    """One beyond the most is told why, and closed; once another is gone, the next is served."""

    async def run() -> None:
        async with listening(tmp_path, max_connections=2) as (_, addresses):
            clients = [await RawClient.connect(addresses[kind]) for _ in range(2)]
            for client in clients:
                await client.send(wire.HANDSHAKE)
                await client.turn()
            refused = await RawClient.connect(addresses[kind])
            await refused.send(wire.HANDSHAKE)
            while not refused.over:
                await refused.receive()
            settings, *_, goaway = refused.frames
            assert (settings.kind, goaway.kind) == (wire.SETTINGS, wire.GOAWAY)
            assert wire.CODES[goaway.payload[7]] == "ENHANCE_YOUR_CALM"
            assert goaway.payload[8:] == b"the server has as many connections as it takes"
            silent = await RawClient.connect(addresses[kind])
            while not silent.over:  # one that says nothing is not left open for ever
                await silent.receive()
            silent.close()
            assert not clients[0].over
            refused.close()
            clients[0].close()

            async def served() -> bool:
                client = await RawClient.connect(addresses[kind])
                await client.send(wire.HANDSHAKE)
                await client.turn()
                client.close()
                return not client.over

            await until_awaited(served, "there is a place again")
            clients[1].close()

    asyncio.run(run())
