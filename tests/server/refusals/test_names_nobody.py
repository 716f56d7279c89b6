"""No error names another client: neither its name, token, regions and ids, nor a value of its tensors, nor a path."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from lossd.command_line.token_line import add_token
from lossd.v1.service_pb2 import GetServerInfoRequest
from lossd_server.backends import Backend
from lossd_server.config.settings import FRONTS
from tests.losses.messages import tensor
from tests.losses.requests import cross_entropy
from tests.server.inference.inferring import MODEL_INFER, inferred
from tests.server.refusals.every_refusal import (
    MIB,
    REGION_BYTES,
    SERVICE,
    Caller,
    FaultyBackend,
    Heard,
    every_refusal,
    lying,
)
from tests.server.running import another, serving_at, stub
from tests.server.shared_memory.memfds import Peer

ROOT = str(Path(__file__).resolve().parents[3])
NAME, LABEL, REQUEST_ID = "wronged-trainer", 8675309, "a-request-of-the-wronged-trainer"


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """With a request id of its own, so that two refusals may be compared."""
    return ("authorization", f"Bearer {token}"), ("x-request-id", "of-the-test")


async def be_refused(caller: Caller, over: asyncio.Event) -> list[Heard]:
    """Requests whose refusals have a label and an id in them, until it is over: batched with whatever else comes."""
    labels = [0] * 8
    labels[3] = LABEL
    request = cross_entropy(target=tensor(labels, "int64"))
    message = inferred(request, REQUEST_ID).SerializeToString()
    heard = []
    while not over.is_set():
        heard.append(await caller.unary(f"{SERVICE}CrossEntropy", request.SerializeToString()))
        heard.append(await caller.unary(MODEL_INFER, message))
    return heard


def test_logs_hold_neither_secrets_nor_tensors(
    numba: Backend, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even at debug, whatever is refused, or fails: no token, no region, no label and no element."""
    token = add_token(NAME, tmp_path / "tokens")

    async def run() -> bytes:
        settings = {"max_message_bytes": MIB, "tokens": str(tmp_path / "tokens")}
        async with serving_at(FaultyBackend(numba), **settings) as (_, channel, _):
            info = await stub(channel).GetServerInfo(GetServerInfoRequest(), metadata=bearer(token))
            peer = await asyncio.to_thread(Peer, info.shared_memory_socket)
            region = await asyncio.to_thread(peer.give, REGION_BYTES)
            over = asyncio.Event()
            beside = asyncio.ensure_future(be_refused(Caller(channel, bearer(token)), over))
            await every_refusal(Caller(channel, bearer(token), [region]))
            await Caller(channel, bearer("a-guessed-secret")).unary(MODEL_INFER, b"")
            over.set()
            await beside
            peer.close()
        return region

    with caplog.at_level(logging.DEBUG):
        region = asyncio.run(run())

    lines = [logging.Formatter().format(one) + repr(vars(one)) for one in caplog.records]
    secrets = [token, "a-guessed-secret", str(LABEL), repr(region)[2:-1], region.hex(), "123456.75"]
    assert any("internal error" in line for line in lines)
    assert any("UNKNOWN_TOKEN" in line for line in lines)
    assert [(word, line) for word in secrets for line in lines if word in line] == []


@pytest.mark.parametrize("front", FRONTS)
def test_a_refusal_names_nobody_else(numba: Backend, front: str, tmp_path: Path) -> None:
    """One client brings about every refusal beside another's, and hears nothing of it, nor a path of the server."""
    path = tmp_path / "tokens-of-the-test"
    tokens = [add_token(name, path) for name in ("neighbour", NAME)]

    async def run() -> None:
        settings = {"max_message_bytes": MIB, "front": front, "tokens": str(path)}
        async with (
            serving_at(FaultyBackend(numba), **settings) as (_, channel, address),
            another(address) as beside,
        ):
            info = await stub(channel).GetServerInfo(GetServerInfoRequest(), metadata=bearer(tokens[0]))
            peers = [await asyncio.to_thread(Peer, info.shared_memory_socket) for _ in tokens]
            regions = [await asyncio.to_thread(peer.give, REGION_BYTES) for peer in peers]
            theirs = Caller(beside, bearer(tokens[1]), [regions[1]])
            await theirs.unary(f"{SERVICE}CrossEntropy", use(regions[1]))  # from now on it is theirs
            over = asyncio.Event()
            wronged = asyncio.ensure_future(be_refused(theirs, over))
            caller = Caller(channel, bearer(tokens[0]), [regions[0]])
            heard = await every_refusal(caller)
            heard["their region"] = await caller.unary(f"{SERVICE}CrossEntropy", use(regions[1]))
            heard["no identity"] = await Caller(channel).unary(f"{SERVICE}CrossEntropy", use(regions[1]))
            heard["their name as a token"] = await Caller(channel, bearer(NAME)).unary(MODEL_INFER, b"")
            over.set()
            said_to_them = await wronged
            for peer in peers:
                peer.close()

        secrets = [NAME[:7], tokens[1], str(LABEL), REQUEST_ID, repr(regions[1])[2:-1], regions[1].hex()]
        places = [path.name, str(tmp_path), ROOT, str(Path(info.shared_memory_socket).parent), "/secret/path", ".py"]
        assert heard["their region"].reasons == heard["UNKNOWN_REGION"].reasons == ["UNKNOWN_REGION"]
        assert heard["their region"].text == heard["UNKNOWN_REGION"].text
        assert any(str(LABEL) in text for one in said_to_them for text in one.text)
        assert named(heard, [*secrets, *places]) == []

    asyncio.run(run())


def use(token: bytes) -> bytes:
    body: bytes = cross_entropy(input=lying(token)).SerializeToString()
    return body


def named(heard: dict[str, Heard], words: list[str]) -> list[tuple[str, str]]:
    return [(name, word) for name, one in heard.items() for word in words if any(word in text for text in one.text)]
