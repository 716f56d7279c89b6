"""Bytes near good requests: each is answered or refused with details, and none is a fault of the server."""

from __future__ import annotations

import random

import grpc

from lossd_server.backends import Backend
from lossd_server.call.contract import Status
from lossd_server.inference.protocol import ModelInferRequest, ModelStreamInferResponse
from lossd_server.server import Server
from tests.fuzz.bodies import message as grown_message
from tests.server.engine.every_loss import requests
from tests.server.inference.inferring import (
    MODEL_INFER,
    Handle,
    NotSayable,
    inferred,
    refusal_of,
    streamed,
    with_server,
)
from tests.server.memory_front import reasons

EXPECTED = {
    code.value[0]
    for code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED)
}


class RandomChoices:
    """Choices for `bodies.message`."""

    def __init__(self, source: random.Random) -> None:
        self._source = source

    def below(self, bound: int) -> int:
        return self._source.randrange(bound)

    def bytes(self, length: int) -> bytes:
        return self._source.randbytes(length)


def good_bodies() -> list[bytes]:
    found = []
    for _, request in requests(3, 4):
        try:
            found.append(inferred(request).SerializeToString())
        except NotSayable:
            continue
    return found


def mutated(body: bytes, source: random.Random) -> bytes:
    """Some bytes changed, a piece left out, doubled or put elsewhere, or fields grown from the descriptor behind it."""
    changed = bytearray(body)
    for _ in range(source.randrange(4)):
        changed[source.randrange(len(changed))] = source.choice((0, 1, 0x7F, 0x80, 0xFF, source.randrange(256)))
    first, last = sorted(source.randrange(len(changed) + 1) for _ in "12")
    kind = source.randrange(5)
    if kind == 0:
        del changed[first:last]
    elif kind == 1:
        changed[last:last] = changed[first:last]
    elif kind == 2:
        changed += grown_message(RandomChoices(source), ModelInferRequest.DESCRIPTOR)
    return bytes(changed)


def test_bytes_near_good_requests(numba: Backend) -> None:
    """Unary: one status of those that a caller can do something about, with one ErrorInfo; in a stream the same words,
    each in its turn."""
    source = random.Random(20)
    good = good_bodies()
    bodies = [mutated(source.choice(good), source) for _ in range(2500)]

    async def body(handle: Handle, server: Server) -> None:
        refused = 0
        for start in range(0, len(bodies), 50):
            some = bodies[start : start + 50]
            in_stream = await streamed(server.routes, some)
            for one, answer in zip(some, in_stream, strict=True):
                unary = await handle(MODEL_INFER, one)
                told = ModelStreamInferResponse.FromString(answer).error_message
                if isinstance(unary, Status):
                    refused += 1
                    assert unary.code in EXPECTED, (one, unary)
                    assert len(reasons(unary)) == 1
                    code, reason, field, sentence = refusal_of(unary)
                    assert told == f"{' '.join(filter(None, (code, reason, field)))}: {sentence}"
                else:
                    assert not told
        assert len(bodies) * 0.2 < refused < len(bodies) * 0.9

    with_server(numba, body)
