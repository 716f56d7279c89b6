"""Every way into the server asks who calls: each method of each service, on each front, by every kind of address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from lossd_server.call.contract import Routes, Status, WholeCall
from lossd_server.config.settings import FRONTS, Settings
from lossd_server.server import Server
from tests.credentials import Pki, TokenFile
from tests.server.edge import EdgeBackend
from tests.server.memory_front import MemoryCall, handled, reasons
from tests.server.messages import cross_entropy
from tests.server.running import details

HEALTH = "/grpc.health.v1.Health/"
CROSS_ENTROPY = "/lossd.v1.LossService/CrossEntropy"
BODY = cross_entropy().SerializeToString()
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
Metadata = tuple[tuple[str, str], ...]

WRONG: dict[str, Metadata] = {
    "NO_CREDENTIALS": (),
    "UNKNOWN_TOKEN": (("authorization", "Bearer wrong"),),
    "NOT_A_BEARER_TOKEN": (("authorization", "Basic dHJhaW5lcjp0cmFpbmVy"),),
    "SEVERAL_CREDENTIALS": (("authorization", "Bearer a"), ("authorization", "Bearer b")),
}


def bearer(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


@asynccontextmanager
async def started(listen: str = "127.0.0.1:0", **settings: Any) -> AsyncIterator[tuple[Server, str, EdgeBackend]]:
    backend = EdgeBackend()
    server = Server(Settings(listen=(listen,), reflection="on", **settings), backend)
    (address,) = await server.start()
    try:
        yield server, address, backend
    finally:
        await server.stop(10.0, linger_s=0.0)


async def status(channel: Any, path: str, metadata: Metadata = (), body: bytes = BODY) -> tuple[grpc.StatusCode, str]:
    """How a call ends whose client sends one message, and its reason."""
    # One batch: beside a call that ends before its message is written, grpc.aio's streams say INTERNAL.
    call = channel.unary_stream(path)(body, metadata=metadata, timeout=30.0)
    try:
        async for _ in call:
            break
    except grpc.aio.AioRpcError as error:
        found = details(error).get("ErrorInfo")
        return error.code(), "" if found is None else found.reason
    return grpc.StatusCode.OK, ""


async def walked(channel: Any, server: Server, metadata: Metadata = ()) -> dict[str, tuple[grpc.StatusCode, str]]:
    """How every method ends that the server has, and some that it has not."""
    nowhere = ("/lossd.v1.LossService/Nothing", "/", "/another.Service/Method")
    return {
        path: await status(channel, path, metadata, b"" if path.startswith(HEALTH) else BODY)
        for path in (*server.routes.methods, *nowhere)
    }


def let_through(found: dict[str, tuple[grpc.StatusCode, str]], reason: str) -> dict[str, tuple[grpc.StatusCode, str]]:
    """Where health's methods do not answer, or something else is not refused with `reason`."""
    assert len(found) > 15
    health, others = (grpc.StatusCode.OK, ""), (UNAUTHENTICATED, reason)
    return {path: end for path, end in found.items() if end != (health if path.startswith(HEALTH) else others)}


def run(body: Any) -> None:
    asyncio.run(asyncio.wait_for(body(), 60.0))


@pytest.mark.parametrize("reason", WRONG)
@pytest.mark.parametrize("front", FRONTS)
def test_only_health_answers_strangers(front: str, reason: str, tokens: TokenFile, tmp_path: Path) -> None:
    """UNAUTHENTICATED with one reason, whatever is called, by TCP and by a Unix socket; nothing is computed."""

    async def body() -> None:
        for listen in ("127.0.0.1:0", f"unix:{tmp_path / 'socket'}"):
            async with (
                started(listen, front=front, tokens=tokens.path) as (server, address, backend),
                grpc.aio.insecure_channel(address) as channel,
            ):
                found = await walked(channel, server, WRONG[reason])

                assert not let_through(found, reason)
                assert not backend.runs

    run(body)


@pytest.mark.parametrize("front", FRONTS)
def test_a_token_opens_every_method(front: str, tokens: TokenFile) -> None:
    """Nothing is UNAUTHENTICATED any more, and the scheme's letters may be large or small."""

    async def body() -> None:
        async with (
            started(front=front, tokens=tokens.path) as (server, address, _),
            grpc.aio.insecure_channel(address) as channel,
        ):
            for scheme in ("Bearer", "bearer"):
                found = await walked(channel, server, (("authorization", f"{scheme} {tokens.token}"),))

                assert all(code is not UNAUTHENTICATED for code, _ in found.values()), found
                assert found[CROSS_ENTROPY] == (grpc.StatusCode.OK, "")

    run(body)


@pytest.mark.parametrize("front", FRONTS)
def test_tls_alone_is_no_identity(front: str, pki: Pki, tokens: TokenFile) -> None:
    """Under TLS a stranger is refused as without, and a token opens the door."""

    async def body() -> None:
        async with (
            started(front=front, tokens=tokens.path, **pki.serving) as (server, address, _),
            pki.channel(address) as channel,
        ):
            found = await walked(channel, server)

            assert not let_through(found, "NO_CREDENTIALS")
            assert await status(channel, CROSS_ENTROPY, bearer(tokens.token)) == (grpc.StatusCode.OK, "")

    run(body)


@pytest.mark.parametrize("front", FRONTS)
def test_certificates_of_clients(front: str, pki: Pki, another_pki: Pki) -> None:
    """A certificate of the named authority opens every method; none, or another's, not even the connection."""

    async def body() -> None:
        async with started(front=front, tls_client_ca=pki.ca_pem, **pki.serving) as (server, address, backend):
            async with pki.channel(address, pki) as channel:
                found = await walked(channel, server)
                assert all(code is not UNAUTHENTICATED for code, _ in found.values()), found
                assert found[CROSS_ENTROPY] == (grpc.StatusCode.OK, "")
            computed = len(backend.runs)
            for shown in (None, another_pki):
                async with pki.channel(address, shown) as channel:
                    found = await walked(channel, server)

                    assert {code for code, _ in found.values()} == {grpc.StatusCode.UNAVAILABLE}
            assert len(backend.runs) == computed

    run(body)


@pytest.mark.parametrize("front", FRONTS)
def test_subjects_that_the_file_lists(front: str, pki: Pki, tokens: TokenFile) -> None:
    """With both, a call is known by its token, or by a certificate whose subject is listed."""

    async def body() -> None:
        settings = {**pki.serving, "tls_client_ca": pki.ca_pem, "tokens": tokens.path}
        async with (
            started(front=front, **settings) as (server, address, _),
            pki.channel(address, pki) as channel,
        ):
            assert not let_through(await walked(channel, server), "UNKNOWN_SUBJECT")
            assert await status(channel, CROSS_ENTROPY, bearer(tokens.token)) == (grpc.StatusCode.OK, "")
        Path(tokens.path).write_text("client-7: certificate\n")
        async with (
            started(front=front, **settings) as (_, address, _),
            pki.channel(address, pki) as channel,
        ):
            assert await status(channel, CROSS_ENTROPY) == (grpc.StatusCode.OK, "")

    run(body)


def routes_of(tokens: TokenFile) -> Routes:
    settings = Settings(listen=("unix:unused",), shared_memory_socket="off", tokens=tokens.path)
    return Server(settings, EdgeBackend()).routes


def test_the_answer_at_once_asks_too(tokens: TokenFile) -> None:
    """Of small calls that are answered together, those of strangers are left to their handlers, which refuse them."""

    async def body() -> None:
        routes, metadata = routes_of(tokens), bearer(tokens.token)
        for _ in range(2):  # the second is like one before
            answer = await handled(routes, MemoryCall(CROSS_ENTROPY, [BODY], metadata))
            assert isinstance(answer, bytes)
        known, stranger = WholeCall(CROSS_ENTROPY, metadata, BODY), WholeCall(CROSS_ENTROPY, (), BODY)
        alone = routes.at_once([known])
        found = routes.at_once([stranger, known, stranger, known])

        assert [answer is None for answer in found] == [True, alone[0] is None, True, alone[0] is None]
        assert routes.at_once([stranger]) == [None]
        refused = await handled(routes, MemoryCall(CROSS_ENTROPY, [BODY]))
        assert isinstance(refused, Status)
        assert reasons(refused) == ["NO_CREDENTIALS"]

    run(body)
