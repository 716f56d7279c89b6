"""Files that change while calls are under way: new calls and connections have what is new, running ones finish."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from lossd.command_line.token_line import add_token
from lossd.v1 import service_pb2
from lossd_server.config.settings import FRONTS, Settings
from lossd_server.server import Server
from tests.credentials import Pki, TokenFile
from tests.server.edge import EdgeBackend
from tests.server.identity.test_certificates import answers
from tests.server.messages import cross_entropy
from tests.waiting import until_awaited

SERVICE = "/lossd.v1.LossService/"
BODY = cross_entropy().SerializeToString()
Metadata = tuple[tuple[str, str], ...]

pytestmark = pytest.mark.parametrize("front", FRONTS)


def bearer(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


def one(number: int) -> bytes:
    """A message of a stream with a whole evaluation."""
    opened = service_pb2.Open(evaluation_id=number, cross_entropy=cross_entropy())
    return service_pb2.StreamRequest(opens=service_pb2.Opens(opens=[opened])).SerializeToString()


async def refused(channel: Any, metadata: Metadata = ()) -> bool:
    """Whether a new call is not answered, for want of an identity."""
    try:
        await channel.unary_unary(SERVICE + "CrossEntropy")(BODY, metadata=metadata, timeout=30.0)
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        return True
    return False


def serve(body: Any, front: str, **settings: Any) -> None:
    """Runs `body(address, backend)` beside a server."""

    async def run() -> None:
        backend = EdgeBackend()
        server = Server(Settings(listen=("127.0.0.1:0",), front=front, **settings), backend)
        (address,) = await server.start()
        try:
            await asyncio.wait_for(body(address, backend), 60.0)
        finally:
            backend.gate.set()
            await server.stop(10.0, linger_s=0.0)

    asyncio.run(run())


def test_a_token_that_ends_while_its_stream_is_open(front: str, tokens: TokenFile) -> None:
    """New calls are refused, new streams too; the open stream answers what it is sent, until it is closed."""
    other = add_token("other", Path(tokens.path))

    async def body(address: str, _: EdgeBackend) -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            streams: Any = channel.stream_stream(SERVICE + "Stream")
            stream = streams(metadata=bearer(tokens.token), timeout=30.0)
            await stream.write(one(1))
            assert await stream.read()
            lines = Path(tokens.path).read_text().splitlines(keepends=True)
            Path(tokens.path).write_text("".join(line for line in lines if line.startswith("other")))

            await until_awaited(lambda: refused(channel, bearer(tokens.token)), "the token has ended")
            assert not await refused(channel, bearer(other))
            another = streams(metadata=bearer(tokens.token), timeout=30.0)
            assert await another.code() is grpc.StatusCode.UNAUTHENTICATED
            await stream.write(one(2))
            found = service_pb2.StreamResponse.FromString(await stream.read())
            assert not found.HasField("failure")
            await stream.done_writing()
            assert await stream.code() is grpc.StatusCode.OK

    serve(body, front, tokens=tokens.path)


def test_a_subject_that_is_struck_off(front: str, pki: Pki, tokens: TokenFile) -> None:
    """Is refused on the connection that it has, without a new handshake."""
    path = Path(tokens.path)
    listed = path.read_text()
    path.write_text(f"{listed}client-7: certificate\n")

    async def body(address: str, _: EdgeBackend) -> None:
        async with pki.channel(address, pki) as channel:
            assert not await refused(channel)
            path.write_text(listed)

            await until_awaited(lambda: refused(channel), "the subject is not listed any more")

    serve(body, front, tokens=tokens.path, **pki.demanding)


def test_an_authority_that_is_taken_away(front: str, pki: Pki, another_pki: Pki, tmp_path: Path) -> None:
    """Of two: its clients get no new connection, the open one goes on; the other's clients notice nothing."""
    both = tmp_path / "authorities.pem"
    both.write_text(Path(pki.ca_pem).read_text() + Path(another_pki.ca_pem).read_text())

    async def connects(address: str, shown: Pki) -> bool:
        async with pki.channel(address, shown) as channel:
            return await answers(channel)

    async def body(address: str, _: EdgeBackend) -> None:
        async with pki.channel(address, another_pki) as open_before:
            assert await answers(open_before)
            assert await connects(address, pki)
            both.write_text(Path(pki.ca_pem).read_text())

            async def shut_out() -> bool:
                return not await connects(address, another_pki)

            await until_awaited(shut_out, "the authority is not trusted any more")
            assert await answers(open_before)
            assert await connects(address, pki)

    serve(body, front, tls_client_ca=str(both), **pki.serving)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_ends_with_its_authority(
    front: str, version: ssl.TLSVersion, pki: Pki, another_pki: Pki, tmp_path: Path
) -> None:
    """It cannot be resumed once the authority of its client's certificate is taken away: that would ask for none."""
    both = tmp_path / "authorities.pem"
    both.write_text(Path(pki.ca_pem).read_text() + Path(another_pki.ca_pem).read_text())
    context = ssl.create_default_context(cafile=pki.ca_pem)
    context.load_cert_chain(another_pki.client_pem, another_pki.client_key)
    context.set_alpn_protocols(["h2"])
    context.minimum_version = context.maximum_version = version

    def greeted(address: str, session: ssl.SSLSession | None) -> tuple[bool, ssl.SSLSession | None]:
        """Whether the server sends its SETTINGS, and the session."""
        host, _, port = address.rpartition(":")
        with (
            socket.create_connection((host, int(port)), 30.0) as sock,
            suppress(OSError),
            context.wrap_socket(sock, server_hostname=host, session=session) as tls,
        ):
            tls.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            return len(tls.recv(9)) == 9, tls.session
        return False, None

    async def body(address: str, _: EdgeBackend) -> None:
        served, session = await asyncio.to_thread(greeted, address, None)
        assert served
        both.write_text(Path(pki.ca_pem).read_text())

        async def shut_out() -> bool:
            return not (await asyncio.to_thread(greeted, address, None))[0]

        await until_awaited(shut_out, "the authority is not trusted any more")
        assert not (await asyncio.to_thread(greeted, address, session))[0]

    serve(body, front, tls_client_ca=str(both), **pki.serving)


def test_certificates_that_change_in_the_middle_of_a_call(front: str, pki: Pki, tmp_path: Path) -> None:
    """The call is answered on the connection that it came by, after others have come with the new ones."""
    before = Pki(tmp_path / "before")
    before.renew()
    for path in pki.folder.iterdir():
        path.write_bytes((before.folder / path.name).read_bytes())

    async def body(address: str, backend: EdgeBackend) -> None:
        async with before.channel(address, before) as channel:
            backend.gate.clear()
            ask: Any = channel.unary_unary(SERVICE + "CrossEntropy")
            call = ask(BODY, timeout=30.0)
            await asyncio.to_thread(backend.until_entered)
            pki.renew()

            async def renewed() -> bool:
                async with pki.channel(address, pki) as fresh:
                    return await answers(fresh)

            await until_awaited(renewed, "new connections have the new certificate")
            backend.gate.set()
            assert await call

    serve(body, front, **pki.demanding)
