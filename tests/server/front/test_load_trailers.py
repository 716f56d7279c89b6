"""The load report is at the end of every call, on both fronts.

Seen by an HTTP/2 client that is not gRPC's: core takes this trailer for itself, and hands it to nobody.
"""

from __future__ import annotations

import asyncio
import base64
import struct
from pathlib import Path
from typing import NamedTuple

import h2.config
import h2.connection
import h2.events
import pytest

from lossd.v1 import service_pb2 as pb
from lossd_server.backends import Backend
from lossd_server.call.load_report import KEY
from lossd_server.config.settings import FRONTS
from tests.credentials import TokenFile
from tests.server.edge import EdgeBackend
from tests.server.front.bare_http2 import FIELDS, framed
from tests.server.messages import cross_entropy
from tests.server.running import serving_at, stub
from tests.waiting import until_awaited

REQUEST = framed(cross_entropy().SerializeToString())
WRONG = framed(b"\xff")


class End(NamedTuple):
    """Of a call: gRPC's code, and requests a second and utilisation, where they were told."""

    code: int
    told: tuple[float, float] | None


async def ended(address: str, body: bytes, method: str = "CrossEntropy", token: str = "") -> End:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    connection.initiate_connection()
    fields = FIELDS | {":path": f"/lossd.v1.LossService/{method}"}
    if token:
        fields["authorization"] = f"Bearer {token}"
    connection.send_headers(1, list(fields.items()))
    connection.send_data(1, body, end_stream=True)
    trailers: dict[str, str] = {}
    try:
        while True:
            writer.write(connection.data_to_send())
            for event in connection.receive_data(await reader.read(1 << 16)):
                if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                    trailers.update(event.headers)  # type: ignore[arg-type]  # text, as asked for
                if isinstance(event, h2.events.StreamEnded):
                    return End(int(trailers["grpc-status"]), _report(trailers.get(KEY, "")))
    finally:
        writer.close()
        await writer.wait_closed()


def _report(value: str) -> tuple[float, float] | None:
    if not value:
        return None
    report = base64.b64decode(value + "=" * (-len(value) % 4))
    assert (report[0], report[9], len(report)) == (6 << 3 | 1, 9 << 3 | 1, 18)
    return struct.unpack_from("<d", report, 1)[0], struct.unpack_from("<d", report, 10)[0]


@pytest.mark.parametrize("front", FRONTS)
def test_every_end_tells(front: str) -> None:
    """Answers, refusals, streams."""

    async def run() -> None:
        async with serving_at(EdgeBackend(), front=front) as (_, _, address):

            async def told() -> bool:
                return (await ended(address, REQUEST)).told is not None

            await until_awaited(told, "a report")
            refused, stream = await ended(address, WRONG), await ended(address, b"", "Stream")

            assert (refused.code, stream.code) == (3, 0)
            assert None not in (refused.told, stream.told)

    asyncio.run(run())


@pytest.mark.parametrize("front", FRONTS)
def test_calls_are_counted(numba: Backend, front: str) -> None:
    """What is answered makes requests a second, and utilisation above 0, which no weight can do without."""

    async def run() -> None:
        async with serving_at(numba, front=front) as (_, channel, address):

            async def told() -> bool:
                found = (await ended(address, REQUEST)).told
                return found is not None and min(found) > 0

            await until_awaited(told, "a report with calls in it")
            info = await stub(channel).GetServerInfo(pb.GetServerInfoRequest())

            assert 0 <= info.statistics.utilization < 10

    asyncio.run(run())


@pytest.mark.parametrize("front", FRONTS)
def test_strangers_hear_nothing(front: str, tmp_path: Path) -> None:
    """Who is refused for it is not known who calls."""
    tokens = TokenFile.made(tmp_path / "tokens")

    async def run() -> None:
        async with serving_at(EdgeBackend(), front=front, tokens=tokens.path) as (_, _, address):

            async def told() -> bool:
                return (await ended(address, WRONG, token=tokens.token)).told is not None

            await until_awaited(told, "a report to somebody who is known")

            assert await ended(address, WRONG) == End(16, None)

    asyncio.run(run())
