"""Who calls is counted by name, and what strangers are told by reason."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from lossd.command_line.token_line import add_token
from lossd_server.backends import Backend
from lossd_server.config.settings import FRONTS
from tests.credentials import TokenFile
from tests.server.edge import EdgeBackend
from tests.server.identity.conftest import tokens
from tests.server.messages import cross_entropy
from tests.server.metrics.scraping import Page, http_port, scraped
from tests.server.running import refused, serving, stub
from tests.waiting import until_awaited

__all__ = ["tokens"]  # a fixture


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def run(body: Any) -> None:
    asyncio.run(asyncio.wait_for(body(), 120.0))


@pytest.mark.parametrize("front", FRONTS)
def test_calls_by_name(front: str, tokens: TokenFile) -> None:
    """Each caller has its calls, right ones and wrong ones; a stranger has none, and is counted by the reason."""

    async def body() -> None:
        other = add_token("evaluator", Path(tokens.path))
        async with serving(EdgeBackend(), front=front, tokens=tokens.path) as (server, channel):
            method: Any = channel.unary_unary("/lossd.v1.LossService/CrossEntropy")
            for _ in range(3):
                await stub(channel).CrossEntropy(cross_entropy(), metadata=bearer(tokens.token))
            await refused(method(b"\xff", metadata=bearer(other)))
            for _ in range(2):
                await refused(stub(channel).CrossEntropy(cross_entropy()))
            with http_port(server.metrics) as url:
                page = await asyncio.to_thread(scraped, url)

            assert page.series("lossd_identity_requests_total") == [
                ({"identity": "trainer"}, 3),
                ({"identity": "evaluator"}, 1),
            ]
            assert page.value("lossd_refused_total", reason="NO_CREDENTIALS") == 2
            assert page.called("CrossEntropy", "Unauthenticated") == 2
            assert page.total("lossd_evaluations_total", result="failed") == 1

    run(body)


def test_calls_at_once_by_name(numba: Backend, tokens: TokenFile) -> None:
    """Calls that are answered together count by name as well, each once."""

    async def body() -> None:
        async with serving(numba, front="http2", tokens=tokens.path) as (server, channel):
            for _ in range(10):
                await stub(channel).CrossEntropy(cross_entropy(3, 5), metadata=bearer(tokens.token))
            with http_port(server.metrics) as url:
                page = await asyncio.to_thread(scraped, url)

            assert page.value("lossd_identity_requests_total", identity="trainer") == 10
            assert page.called("CrossEntropy") == 10

    run(body)


@pytest.mark.parametrize("front", FRONTS)
def test_bytes_by_name(front: str, tokens: TokenFile) -> None:
    """What a caller's calls and streams hold is told by its name, and is 0 when they are over."""

    async def body() -> None:
        backend = EdgeBackend()
        async with serving(backend, front=front, http="0", tokens=tokens.path) as (server, channel):
            backend.gate.clear()
            call = stub(channel).CrossEntropy(cross_entropy(), metadata=bearer(tokens.token))
            with http_port(server.metrics) as url:

                async def holds(size: int) -> bool:
                    page: Page = await asyncio.to_thread(scraped, url)
                    return page.value("lossd_identity_inflight_bytes", identity="trainer") == size

                size = len(cross_entropy().SerializeToString())
                await until_awaited(lambda: holds(size), "the caller's bytes are told")
                backend.gate.set()
                await call
                await until_awaited(lambda: holds(0), "they are given back")

    run(body)


def test_what_a_front_refuses_by_itself() -> None:
    """A compressed call, which has no handler, is begun, ended and refused as any."""

    async def body() -> None:
        async with serving(EdgeBackend(), front="http2") as (server, channel):
            await refused(stub(channel).CrossEntropy(cross_entropy(), compression=grpc.Compression.Gzip))
            with http_port(server.metrics) as url:
                page = await asyncio.to_thread(scraped, url)

            assert page.value("lossd_refused_total", reason="COMPRESSION_NOT_TAKEN") == 1
            assert page.total("grpc_server_started_total", grpc_method="CrossEntropy") == 1
            assert page.total("grpc_server_handled_total", grpc_method="CrossEntropy") == 1

    run(body)
