"""A refusal gives back everything that it held, whichever it is, on both fronts, however often it happens."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from lossd.v1 import service_pb2 as pb
from lossd_server.backends import Backend
from lossd_server.config.settings import FRONTS
from lossd_server.inference.protocol import ModelStreamInferResponse
from tests.docs.named_tests import missing_tests
from tests.docs.reasons_in_code import raised
from tests.server.inference.inferring import MODEL_STREAM_INFER
from tests.server.inference.wrong_requests import PROTOCOL, wrong
from tests.server.messages import cross_entropy
from tests.server.refusals.every_refusal import MIB, REFUSALS, REGION_BYTES, Caller, FaultyBackend, every_refusal
from tests.server.running import held, serving_at, stub
from tests.server.shared_memory.memfds import Peer, descriptors
from tests.server.streaming.conversation import Talk, opened
from tests.server.streaming.test_refusals import REFUSED as OF_STREAMS
from tests.server.streaming.test_refusals import cross_entropy as streamable
from tests.waiting import until_awaited

ROUNDS = 5
# Reasons that need time, load or an end, or bytes that no client of gRPC's sends: by tests of their own.
ELSEWHERE = {
    "OVERLOADED": "tests/server/rpc/test_service.py::test_full",
    "CALLER_LIMIT": "tests/server/identity/test_caller_limits.py::test_nothing_is_left_of_a_caller_that_is_gone",
    "BODY_TIMEOUT": "tests/server/rpc/test_unary_call.py::test_body_that_does_not_come",
    "ANSWER_NOT_READ": "tests/server/rpc/test_small_calls.py::test_a_client_that_reads_nothing",
    "DEADLINE_EXCEEDED": "tests/server/rpc/test_unary_call.py::test_deadline",
    "GOING_AWAY": "tests/server/rpc/test_unary_call.py::test_stopping",
    "DEVICE_LOST": "tests/server/test_device_lost.py::test_every_caller_is_told_to_go_elsewhere",
    "STREAM_STALLED": "tests/server/streaming/test_endings.py::test_a_client_that_stalls",
    "STREAM_NOT_READ": "tests/server/streaming/test_endings.py::test_a_client_that_does_not_read",
    "STREAM_IDLE": "tests/server/streaming/test_many_streams.py::test_the_longest_silent_stream_makes_room",
    "BLOCK_AFTER_END": "tests/server/streaming/test_endings.py::test_a_block_after_the_End",
    "SECOND_END": "tests/server/streaming/test_session_rules.py::test_refusals_say_what_they_are",
    "METADATA_TOO_LARGE": "tests/server/front/http2/test_attacks.py::test_large_header_lists",
    "COMPRESSION_NOT_TAKEN": "tests/server/front/http2/test_calls.py::test_compression",
    "INTEGER_OUT_OF_RANGE": "tests/server/inference/test_infer_contents.py::test_typed_contents_that_are_refused",
    "CONTENTS_NOT_TAKEN": "tests/server/inference/test_infer_contents.py::test_typed_contents_that_are_refused",
}
# tests/server/identity/test_walk.py: before anything is held.
OF_STRANGERS = {"NO_CREDENTIALS", "NOT_A_BEARER_TOKEN", "UNKNOWN_TOKEN", "SEVERAL_CREDENTIALS", "UNKNOWN_SUBJECT"}
OF_A_CALL = re.compile("server/lossd_server/(?!http/)")
BY_CORE = "Received message larger than max"  # gRPC's own words, of a message far over the limit
# What is met before the reason that the case is of.
SOONER = {
    "RANK_TOO_LARGE of a loss 11": "TOO_MANY_FIELDS",
    "TOO_MANY_FIELDS 100,000 parameters": "MESSAGE_TOO_LARGE",
}


@asynccontextmanager
async def refusing(backend: Backend, front: str, **settings: object) -> AsyncIterator[tuple[grpc.aio.Channel, bytes]]:
    """A channel to a server with a limit of 1 MiB, and the token of a region there."""
    async with serving_at(FaultyBackend(backend), max_message_bytes=MIB, front=front, **settings) as (_, channel, _):
        info = await stub(channel).GetServerInfo(pb.GetServerInfoRequest())
        peer = await asyncio.to_thread(Peer, info.shared_memory_socket)
        try:
            yield channel, await asyncio.to_thread(peer.give, REGION_BYTES)
        finally:
            peer.close()


def held_by_process() -> tuple[int, int]:
    """Tasks and open descriptors."""
    gc.collect()
    return len(asyncio.all_tasks()), descriptors()


@pytest.mark.parametrize("front", FRONTS)
def test_a_refusal_gives_back_everything(numba: Backend, front: str) -> None:
    """After all that there are, five times over, no byte, request, task or descriptor is held; calls are answered."""

    async def run() -> None:
        async with refusing(numba, front) as (channel, token):
            caller = Caller(channel, tokens=[token])
            heard = await every_refusal(caller)
            wrong = {
                name: one.reasons
                for name, one in heard.items()
                if set(one.reasons) != {expected(name)} and not (front == "grpcio" and BY_CORE in "".join(one.text))
            }
            assert await held(channel) == (0, 0)
            before = held_by_process()
            for _ in range(ROUNDS):
                await every_refusal(caller)

            assert wrong == {}
            assert await held(channel) == (0, 0)
            await until_awaited(lambda: held_by_process() <= before, f"as much is held as before: {before}")
            assert (await stub(channel).CrossEntropy(cross_entropy())).summary.count == 4

    asyncio.run(run())


@pytest.mark.parametrize("front", FRONTS)
def test_a_stream_that_goes_on_holds_nothing_of_what_failed(numba: Backend, front: str) -> None:
    """Not only its end gives back: each evaluation does when it is refused."""
    good = pb.StreamRequest(open=opened(streamable(), 99))

    async def run() -> None:
        async with refusing(numba, front) as (channel, _):
            talk = Talk(channel)
            for name, messages in OF_STREAMS.items():
                await talk.send(*messages, good)
                while (await talk.receive()).result.evaluation_id != 99:
                    pass
                await until_awaited(lambda: is_free(channel), f"nothing is held of {name}")
            await talk.rest()

    asyncio.run(run())


@pytest.mark.parametrize("front", FRONTS)
def test_a_stream_of_inference_holds_nothing_of_what_failed(numba: Backend, front: str) -> None:
    """The same of each message that is refused there."""
    bodies = [(row[0], wrong(row[1]).SerializeToString()) for row in PROTOCOL]

    async def run() -> None:
        async with refusing(numba, front) as (channel, _):
            call: Any = channel.stream_stream(MODEL_STREAM_INFER)()
            for name, body in bodies:
                if len(body) < MIB:
                    await call.write(body)
                    assert ModelStreamInferResponse.FromString(await call.read()).error_message, name
                    await until_awaited(lambda: is_free(channel), f"nothing is held of {name}")
            await call.done_writing()
            assert await call.code() is grpc.StatusCode.OK

    asyncio.run(run())


async def is_free(channel: grpc.aio.Channel) -> bool:
    return await held(channel) == (0, 0)


def expected(name: str) -> str:
    return SOONER.get(name, name.split()[0])


def test_every_reason_of_the_server_is_among_them() -> None:
    """All that its code raises on a call, but for what needs time, load or an end, which other tests bring about, and
    for what the HTTP port says before a call begins (tests/server/http).
    """
    of_calls = {
        name
        for name, found in raised().items()
        if found.classes - {"NotTaken"} and any(OF_A_CALL.match(place) for place in found.places)
    }

    assert of_calls - {expected(name) for name in REFUSALS} - set(ELSEWHERE) - OF_STRANGERS == set()
    assert set(ELSEWHERE) | OF_STRANGERS <= of_calls
    assert missing_tests(ELSEWHERE.values()) == []
