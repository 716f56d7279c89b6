"""TLS: HTTP/2 is agreed on by ALPN, and everything works as without."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import uvloop

from lossd_server.front.http2 import tls_listener
from lossd_server.front.http2.protocol import ALPN
from lossd_server.front.http2.tls_listener import TlsListener
from tests.server.front.http2.listening import listening
from tests.waiting import until_awaited

UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
LARGE = bytes(range(256)) * (1 << 16)  # 16 MiB
LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
Loop = Callable[[], asyncio.AbstractEventLoop]

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One for 127.0.0.1 that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    chain, key = folder / "chain.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-subj", "/CN=lossd", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", chain],
        check=True, capture_output=True,
    )  # fmt: skip
    return chain, key


@pytest.fixture
def tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    """The server's."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    context.set_alpn_protocols([ALPN])
    return context


def secure(address: str, certificate: tuple[Path, Path]) -> Any:
    credentials = grpc.ssl_channel_credentials(certificate[0].read_bytes())
    return grpc.aio.secure_channel(address, credentials, options=UNLIMITED)


def run(body: Any, loop: Loop) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(body(), 60.0))


@LOOPS
def test_calls(loop: Loop, tls: ssl.SSLContext, certificate: tuple[Path, Path], tmp_path: Path) -> None:
    """Unary and streamed, small and of 16 MiB both ways, and many at once."""

    async def body() -> None:
        async with (
            listening(tmp_path, tls=tls) as (_, addresses),
            secure(addresses["tcp"], certificate) as channel,
        ):
            echo = channel.unary_unary("/test/Echo")
            assert await echo(b"hello") == b"hello"
            assert await echo(LARGE) == LARGE
            sent = [b"one", b"", LARGE[: 1 << 20], b"four"]
            assert [one async for one in channel.stream_stream("/test/EchoAll")(iter(sent))] == sent
            many = [b"%d" % one for one in range(200)]
            assert await asyncio.gather(*(echo(one) for one in many)) == many

    run(body, loop)


@pytest.mark.parametrize("offered", [None, ["http/1.1"], ["h2", "http/1.1"]])
@LOOPS
def test_alpn(
    loop: Loop, offered: list[str] | None, tls: ssl.SSLContext, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    """A client that does not offer h2 is told so in the only protocol that is left, and closed."""

    async def body() -> None:
        context = ssl.create_default_context(cafile=certificate[0])
        if offered is not None:
            context.set_alpn_protocols(offered)
        async with listening(tmp_path, tls=tls) as (_, addresses):
            host, _, port = addresses["tcp"].rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
            if offered is not None and "h2" in offered:
                said = await reader.readexactly(9)
                assert said[3] == 4  # SETTINGS
            else:
                writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
                said = await reader.read()
                assert said.startswith(b"HTTP/1.1 505 ")
                assert b"ALPN" in said
            writer.close()

    run(body, loop)


def test_plain_bytes_on_a_port_with_tls(tls: ssl.SSLContext, certificate: tuple[Path, Path], tmp_path: Path) -> None:
    """They end their own connection; the next one is served."""

    async def body() -> None:
        async with listening(tmp_path, tls=tls) as (_, addresses):
            host, _, port = addresses["tcp"].rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            while await reader.read(1000):
                pass
            writer.close()
            async with secure(addresses["tcp"], certificate) as channel:
                assert await channel.unary_unary("/test/Echo")(b"hello") == b"hello"

    run(body, asyncio.new_event_loop)


@LOOPS
def test_a_handshake_that_does_not_come(
    loop: Loop, tls: ssl.SSLContext, certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that connects and says nothing, or half of a greeting, is closed when its time is over; others go on."""
    monkeypatch.setattr(tls_listener, "HANDSHAKE_S", 0.2)

    async def body() -> None:
        async with listening(tmp_path, tls=tls) as (_, addresses):
            host, _, port = addresses["tcp"].rpartition(":")
            for begun in (b"", b"\x16\x03\x01\x02\x00\x01"):
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(begun)
                with suppress(ConnectionError):
                    assert await reader.read() == b""
                writer.close()
            async with secure(addresses["tcp"], certificate) as channel:
                assert await channel.unary_unary("/test/Echo")(b"hello") == b"hello"

    run(body, loop)


async def greeted(address: str, context: ssl.SSLContext) -> bool:
    """Whether a client that means it is served."""
    host, _, port = address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    found: bool = writer.get_extra_info("ssl_object").selected_alpn_protocol() == ALPN
    writer.close()
    return found


@LOOPS
def test_handshakes_that_are_never_finished(
    loop: Loop, tls: ssl.SSLContext, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    """Are bounded in number: the oldest gives way, and whoever finishes theirs is served while a flood goes on."""
    most = 8

    async def body() -> None:
        context = ssl.create_default_context(cafile=certificate[0])
        context.set_alpn_protocols([ALPN])
        async with listening(tmp_path, tls=tls, max_connections=most) as (front, addresses):
            (listener,) = (one for one in front._servers if isinstance(one, TlsListener))
            host, _, port = addresses["tcp"].rpartition(":")
            held = []
            for number in range(5 * most):
                held.append(await asyncio.open_connection(host, int(port)))
                if number % most == 0:
                    assert await greeted(addresses["tcp"], context)
                assert listener.unfinished <= most
            # The first of them was ended, the last one not.
            assert await held[0][0].read() == b""
            assert not held[-1][0].at_eof()
            for _, writer in held:
                writer.close()

    run(body, loop)


@LOOPS
def test_handshakes_that_fail_hold_nothing(
    loop: Loop, tls: ssl.SSLContext, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    """A client that goes in the middle, or speaks something else, is forgotten at once, its descriptor too."""

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    async def body() -> None:
        async with listening(tmp_path, tls=tls) as (front, addresses):
            (listener,) = (one for one in front._servers if isinstance(one, TlsListener))
            host, _, port = addresses["tcp"].rpartition(":")
            before = descriptors()
            for said in (b"", b"nonsense\n" * 10, b"\x16\x03\x01\x02\x00") * 3:
                _, writer = await asyncio.open_connection(host, int(port))
                writer.write(said)
                await writer.drain()
                writer.close()
                await writer.wait_closed()
                await until_awaited(lambda: listener.unfinished == 0, "its handshake is forgotten")
            await until_awaited(lambda: descriptors() == before, "its descriptor is closed")

    run(body, loop)


def test_a_listener_that_closes_in_a_handshake(tls: ssl.SSLContext, tmp_path: Path) -> None:
    """Ends it: nothing of it is left to the loop."""

    async def body() -> None:
        async with listening(tmp_path, tls=tls) as (front, addresses):
            (listener,) = (one for one in front._servers if isinstance(one, TlsListener))
            host, _, port = addresses["tcp"].rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            await until_awaited(lambda: listener.unfinished == 1, "the handshake has begun")
        assert listener.unfinished == 0
        assert await reader.read() == b""
        writer.close()

    run(body, asyncio.new_event_loop)
