"""What a client sends that means no good costs itself, and nobody else."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lossd.v1 import loss_pb2, tensor_pb2
from lossd.v1 import service_pb2 as pb
from lossd_server.backends import Backend
from lossd_server.streaming.session import MAX_OPEN
from tests.losses.messages import tensor
from tests.server.messages import cross_entropy
from tests.server.running import held, serving, settled, stub, until_held
from tests.server.streaming.conversation import Talk, converse, failures, messages, opened, reason, whole
from tests.server.streaming.hostile import ROWS, hostile, requests
from tests.waiting import until_awaited

MIB = 1 << 20
SEVERAL = 40  # sequences to a server
STATUSES = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}
# Codes of google.rpc: invalid argument, not found (memory that nobody registered), resource exhausted, not served.
FAILURES = {3, 5, 8, 12}
# With INTERNAL: what the aio client says of a write that the call's end caught in the middle.
OWN_WORDS = "Internal error from Core"


async def exchanged(channel: grpc.aio.Channel, bodies: Sequence[bytes]) -> tuple[grpc.StatusCode, list[Any], str]:
    """What a stream of these messages ends with, and its answers until then."""
    call: Any = channel.stream_stream("/lossd.v1.LossService/Stream")()
    found = []

    async def read() -> None:
        try:
            while (one := await call.read()) is not grpc.aio.EOF:
                found.append(pb.StreamResponse.FromString(one))
        except grpc.aio.AioRpcError:
            pass  # its status is asked for below

    reading = asyncio.ensure_future(read())
    try:
        for body in bodies:
            await call.write(body)
        await call.done_writing()
    except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
        pass  # the server ended it before
    await reading
    return await call.code(), found, await call.details()


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 1 << 32), min_size=SEVERAL // 4, max_size=SEVERAL))
def test_changed_messages(numba: Backend, seeds: list[int]) -> None:
    """Whatever was changed in right messages, each stream ends with a status that says whose fault it was, a bystander
    has the answer that it has alone, and nothing is left."""

    async def run() -> None:
        async with serving(numba, max_message_bytes=MIB, max_inflight_bytes=8 * MIB) as (_, channel):
            request = requests()[0][0]
            sent = list(messages(request, 1, ["input"], [0, 2, 4, 6]))
            bystander = Talk(channel)
            for at, seed in enumerate(seeds):
                if at * len(sent) % len(seeds) < len(sent):
                    await bystander.send(sent[at * len(sent) // len(seeds)])
                code, answers, said = await exchanged(channel, hostile(random.Random(seed)))
                assert code in STATUSES or said == OWN_WORDS, f"seed {seed}: {code}, {said}"
                for failure in failures(answers).values():
                    assert failure.code in FAILURES, f"seed {seed}: {failure}"
            answer = whole(request, await bystander.rest(), 1)

            assert answer.input_gradient == (await alone(channel, request)).input_gradient
            await until_held(channel, (0, 0))

    asyncio.run(run())


def test_a_malformed_message_after_large_answers(numba: Backend) -> None:
    """The status of a stream waits for the answer that is being written, beside which core takes none."""

    async def run() -> None:
        async with serving(numba) as (_, channel):
            request = pb.EntropyRequest(
                input=tensor(np.full((1 << 18, 2), 0.5)), reduction=loss_pb2.REDUCTION_NONE
            )  # 1 MiB of losses
            call: Any = channel.stream_stream("/lossd.v1.LossService/Stream")()
            for number in range(4):
                await call.write(pb.StreamRequest(open=opened(request, number)).SerializeToString())
            await call.write(b"\xff")
            with suppress(grpc.aio.AioRpcError):
                while await call.read() is not grpc.aio.EOF:
                    pass

            assert await call.code() == grpc.StatusCode.INVALID_ARGUMENT
            await until_held(channel, (0, 0))

    asyncio.run(run())


def test_thousands_of_opens_in_one_message(numba: Backend) -> None:
    """An Open may be two bytes long: a message of more of them than a stream may have open ends the stream."""

    async def run() -> None:
        async with serving(numba) as (_, channel):
            opens = pb.Opens(opens=[pb.Open()] * (MAX_OPEN + 1))
            code, answers, _ = await exchanged(channel, [pb.StreamRequest(opens=opens).SerializeToString()])

            assert (code, answers) == (grpc.StatusCode.INVALID_ARGUMENT, [])
            assert await held(channel) == (0, 0)

    asyncio.run(run())


def test_huge_shapes_without_data(numba: Backend) -> None:
    """Evaluations that declare exabytes and send nothing cost what their Opens do, and end with their stream."""

    async def run() -> None:
        async with serving(numba, max_message_bytes=MIB, max_inflight_bytes=8 * MIB) as (_, channel):
            huge = pb.SelfInformationRequest(input=tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT32))
            huge.input.shape.extend([1 << 40, 4])
            talk = Talk(channel)
            for number in range(MAX_OPEN // 2):
                await talk.send(pb.StreamRequest(open=opened(huge, number, ["input"])))
            refused = (await talk.receive()).failure

            assert reason(refused) == "OVERLOADED"
            assert (await held(channel))[0] <= 4 * MIB
            assert (await alone(channel, requests()[0][0])).summary.count == ROWS
            talk.call.cancel()
            await until_held(channel, (0, 0))

    asyncio.run(run())


def test_many_streams_that_are_never_read(numba: Backend) -> None:
    """Clients that send and read nothing hold what streams may hold and no more: others are answered meanwhile."""

    async def run() -> None:
        async with serving(numba, max_message_bytes=4 * MIB, max_inflight_bytes=32 * MIB) as (server, channel):
            large = pb.EntropyRequest(
                input=tensor(np.full((1 << 18, 2), 0.5)), reduction=loss_pb2.REDUCTION_NONE
            )  # 2 MiB, answered with 1 MiB
            talks = [Talk(channel) for _ in range(12)]

            async def send(talk: Talk) -> None:
                for number in range(50):
                    await talk.send(pb.StreamRequest(open=opened(large, number)))

            async def given_up() -> bool:
                server.service.expire(time.monotonic() + 1e6)
                return await held(channel) == (0, 0)  # who waited for room is not read by its client either

            sending = [asyncio.ensure_future(send(talk)) for talk in talks]
            now = await settled(channel, 50)
            answers = [await alone(channel, requests()[0][0]) for _ in range(20)]

            assert now[0] <= 24 * MIB
            assert [one.summary.count for one in answers] == [ROWS] * 20
            await until_awaited(given_up, "the server holds nothing of streams that are never read")
            for one in sending:
                one.cancel()
            await asyncio.wait(sending)

    asyncio.run(run())


def test_streams_in_a_budget_of_one_message(numba: Backend) -> None:
    """Where there is room for hardly more than one message, many streams take turns, and all of them are answered."""

    async def run() -> None:
        async with serving(numba, max_message_bytes=MIB, max_inflight_bytes=MIB + 1) as (_, channel):
            request = pb.SelfInformationRequest(
                input=tensor(np.full((1 << 17, 2), 0.5)), reduction=loss_pb2.REDUCTION_SUM
            )
            sent = [list(messages(request, 1, ["input"], [0, 1 << 15, 1 << 16, 1 << 17])) for _ in range(16)]
            answers = await asyncio.gather(*(converse(channel, of) for of in sent))

            assert [whole(request, one, 1).summary.count for one in answers] == [1 << 18] * 16
            await until_held(channel, (0, 0))

    asyncio.run(run())


async def alone(channel: grpc.aio.Channel, request: Any) -> Any:
    return await stub(channel).CrossEntropy(request)


def test_a_message_that_says_nothing(numba: Backend) -> None:
    """An empty StreamRequest, or one of a later version's fields only, is passed over: the stream goes on."""

    async def run() -> None:
        async with serving(numba) as (_, channel):
            call: Any = channel.stream_stream("/lossd.v1.LossService/Stream")()
            for body in (b"", b"\xaa\x06\x01x"):  # field 101
                await call.write(body)
            opened = pb.StreamRequest(open=pb.Open(evaluation_id=1, cross_entropy=cross_entropy()))
            await call.write(opened.SerializeToString())
            await call.done_writing()

            assert pb.StreamResponse.FromString(await call.read()).result.evaluation_id == 1
            assert await call.code() is grpc.StatusCode.OK
            assert await held(channel) == (0, 0)

    asyncio.run(run())


def test_failed_evaluations_are_remembered_up_to_a_bound(numba: Backend) -> None:
    """A stream that fails without end remembers its latest: of those before them a block is that of a stranger."""
    opens = [pb.Open(evaluation_id=number) for number in range(MAX_OPEN + 8)]
    sent = [pb.StreamRequest(opens=pb.Opens(opens=opens[first : first + 1024])) for first in range(0, len(opens), 1024)]
    asked = [pb.StreamRequest(end=pb.End(evaluation_id=number)) for number in (0, len(opens) - 1)]

    async def run() -> None:
        async with serving(numba) as (_, channel):
            responses = await converse(channel, [*sent, *asked])

            last = [one.failure for one in responses if one.HasField("failure")]
            assert [(one.evaluation_id, reason(one)) for one in last] == [(0, "NO_SUCH_EVALUATION")]
            assert len(failures(responses)) == len(opens)
            assert await held(channel) == (0, 0)

    asyncio.run(run())
