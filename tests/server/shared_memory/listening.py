"""A shared-memory socket without the rest of a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from lossd.shared_memory import socket_protocol
from lossd_server.shared_memory.registry import RegionRegistry
from lossd_server.shared_memory.socket_server import SocketServer
from tests.server.shared_memory.memfds import PAGE, connected

INSTANCE = "0123456789abcdef"
MOST = 1024 * PAGE


@asynccontextmanager
async def listening(max_bytes: int = MOST, **how: Any) -> AsyncIterator[tuple[SocketServer, RegionRegistry]]:
    regions = RegionRegistry(max_bytes, 4096)
    handover = SocketServer(regions, INSTANCE, **how)
    handover.start()
    try:
        yield handover, regions
    finally:
        handover.stop()


def against(talk: Callable[[str], None], **how: Any) -> int:
    """Lets `talk` speak to a socket's path from another thread; the regions that are left when it has ended."""

    async def run() -> int:
        async with listening(**how) as (handover, regions):
            await asyncio.to_thread(talk, handover.path)
            return len(regions)

    return asyncio.run(run())


def alive(path: str) -> None:
    """A right client is served."""
    with connected(path) as peer:
        assert len(peer.give()) == socket_protocol.TOKEN_BYTES
