"""A proxy of its own process, that cuts connections, or passes them on byte by byte.

`python -m chaos.proxy SEED NAME=HOST:PORT …` (NAME! for one that is encrypted) says one JSON line with its ports, then
one for each thing that it does, and ends with its input.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
import time
from contextlib import suppress

from chaos.cutting import ONE_BY_ONE_BYTES, CutPlan, Cutter, drawn

READ_BYTES = 1 << 16


class Proxy:
    """To one server. seed: of the plans, one for each connection by its number."""

    def __init__(self, seed: str, name: str, host: str, port: int, encrypted: bool) -> None:
        self._seed, self.name, self._host, self._port, self._encrypted = seed, name, host, port, encrypted
        self._count = 0
        self._calm = False

    def calm(self) -> None:
        """From now on everything passes."""
        self._calm = True

    async def listen(self) -> int:
        """The port."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=READ_BYTES)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._count += 1
        plan = drawn(f"{self._seed} {self.name} {self._count}", self._encrypted)
        if self._calm:
            plan = CutPlan("", 0, 0.0, 0, False)
        far_writer = None
        start = time.monotonic()
        try:
            if plan.kind == "cut before preface":
                return
            far_reader, far_writer = await asyncio.open_connection(self._host, self._port, limit=READ_BYTES)
            pumps = [
                asyncio.ensure_future(self._pump(reader, far_writer, Cutter(plan, True), plan)),
                asyncio.ensure_future(self._pump(far_reader, writer, Cutter(plan, False), plan)),
            ]
            # A side that is over ends both: gRPC's connections are not half closed.
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for one in pumps:
                one.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        except OSError:
            pass  # the server is not there: that is for the client to see
        finally:
            for side in (writer, far_writer):
                if side is not None:
                    _end(side, plan.resets)
            if plan.kind:
                self._tell(plan, start)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cutter: Cutter, plan: CutPlan
    ) -> None:
        singles = ONE_BY_ONE_BYTES if plan.kind == "one byte at a time" else 0
        with suppress(OSError):
            while data := await reader.read(1 if singles else READ_BYTES):
                singles -= bool(singles)
                passing = data[: cutter.passes(data)]
                writer.write(passing)
                await writer.drain()
                if cutter.is_cut:
                    return
                if singles:
                    await asyncio.sleep(0)

    def _tell(self, plan: CutPlan, start: float) -> None:
        # A cut is a moment; bytes that go one by one last as long as the connection does.
        begun = start if plan.kind == "one byte at a time" else time.monotonic()
        told = {"kind": plan.kind, "target": f"proxy/{self.name}", "start": begun, "end": time.monotonic()}
        print(json.dumps(told), flush=True)


def _end(writer: asyncio.StreamWriter, resets: bool) -> None:
    with suppress(OSError):
        if resets:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        writer.close()


async def serve(seed: str, upstreams: list[str]) -> None:
    proxies = []
    for one in upstreams:
        name, _, address = one.partition("=")
        host, _, port = address.rpartition(":")
        proxies.append(Proxy(seed, name.removesuffix("!"), host, int(port), name.endswith("!")))
    print(json.dumps({one.name: await one.listen() for one in proxies}), flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        if line.strip() == "calm":
            for proxy in proxies:
                proxy.calm()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2:]))
