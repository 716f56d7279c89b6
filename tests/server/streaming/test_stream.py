"""Stream as any generated client speaks it: blocks in any cut, evaluations in any order, the bits of a unary call."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import numpy as np
import pytest

from lossd.request import build as requests
from lossd.v1 import loss_pb2
from lossd.v1 import service_pb2 as pb
from lossd_server.backends import Backend
from lossd_server.jobs.slicing import granularity, items
from lossd_server.losses import check
from lossd_server.tensors.array import INTEGERS
from lossd_server.tensors.request_fields import fields_of
from tests.conformance.cases import case
from tests.conformance.losses import LOSSES
from tests.conformance.values import DTYPES, EIGHT_BITS
from tests.losses.messages import tensor
from tests.server.running import held, serving, stub
from tests.server.streaming.conversation import Talk, converse, end, messages, opened, whole

LARGE = [(9001,), (300, 40), (17, 3, 400), (40, 7, 3, 5)]
SMALL = [(7, 5), (6, 3, 4), (4, 2, 2, 2), (33, 17)]
BY_ITEM = ("target", "row_weight", "grad_output")


def request_of(loss: str, option: str, dtype: str, rng: random.Random) -> Any:
    """A request of the loss, large enough for blocks."""
    of = LOSSES[loss]
    shape = rng.choice(LARGE if of.elementwise else SMALL)
    asked = case(loss, option, rng.choice(of.reductions), dtype, shape).asked
    return requests.build(asked.method, *asked.tensors, **asked.options).request


def plan(request: Any, rng: random.Random) -> tuple[list[str], list[int]]:
    """Tensors to stream, the input and some others that have items, and where to cut."""
    count = request.input.shape[0]
    job = check(request.DESCRIPTOR.name.removesuffix("Request"), fields_of(request))
    streamed = ["input"]
    normalizer = "normalizer" in request.DESCRIPTOR.fields_by_name and request.HasField("normalizer")
    graded_mean = request.gradients and request.reduction in (0, 2) and not normalizer
    for name in BY_ITEM:
        given = getattr(request, name) if hasattr(request, name) and request.HasField(name) else None
        if given is None or list(given.shape[:1]) != [count]:
            continue
        denominator = name == "row_weight" or given.dtype in INTEGERS
        if not (graded_mean and denominator) and rng.random() < 0.7:
            streamed.append(name)
    step = granularity(job)
    inner = [rng.randrange(0, items(job), step) for _ in range(rng.randrange(6))]
    return streamed, sorted({0, *inner, count})


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_in_any_cut(numba: Backend, loss: str) -> None:
    """An evaluation in random blocks is the unary answer to the bit: losses, gradients, outputs, summary."""
    rng = random.Random(loss)
    options = list(LOSSES[loss].options)

    async def run() -> None:
        async with serving(numba) as (_, channel):
            for n, option in enumerate(options):
                dtype = list(DTYPES | EIGHT_BITS)[n % len(DTYPES | EIGHT_BITS)]
                request = request_of(loss, option, dtype, rng)
                streamed, cuts = plan(request, rng)
                unary = await getattr(stub(channel), request.DESCRIPTOR.name.removesuffix("Request"))(request)
                unary.ClearField("timing")
                responses = await converse(channel, messages(request, n, streamed, cuts))

                assert whole(request, responses, n) == unary, (option, dtype, streamed, cuts)
            assert await held(channel) == (0, 0)

    asyncio.run(run())


def test_interleaved_evaluations(numba: Backend) -> None:
    """Twenty evaluations whose messages are shuffled together each have their own answer."""
    rng = random.Random(5)

    async def run() -> None:
        async with serving(numba) as (_, channel):
            asked = {}
            lines = []
            for n in range(20):
                loss = rng.choice(list(LOSSES))
                request = request_of(loss, "plain", "float32", rng)
                streamed, cuts = plan(request, rng)
                asked[n] = request
                lines.append(list(messages(request, n, streamed, cuts)))
            mixed = []
            while any(lines):
                line = rng.choice([line for line in lines if line])
                mixed.append(line.pop(0))
            responses = await converse(channel, mixed)

            for n, request in asked.items():
                unary = await getattr(stub(channel), request.DESCRIPTOR.name.removesuffix("Request"))(request)
                unary.ClearField("timing")
                assert whole(request, responses, n) == unary

    asyncio.run(run())


def test_complete_evaluations(numba: Backend) -> None:
    """Opens that are complete in themselves are answered like unary calls, those of one message in one message."""
    rng = random.Random(6)

    async def run() -> None:
        async with serving(numba) as (_, channel):
            asked = [request_of(loss, "plain", "float32", rng) for loss in LOSSES]
            small = [one for one in asked if one.ByteSize() < 20_000]
            together = pb.StreamRequest(opens=pb.Opens(opens=[opened(one, n) for n, one in enumerate(small)]))
            alone = pb.StreamRequest(open=opened(asked[0], 1000))
            responses = await converse(channel, [together, alone])

            results = [one.results for one in responses if one.HasField("results")]
            assert len(responses) == 2
            assert len(results) == 1
            found = {one.evaluation_id: one for one in results[0].results}
            assert sorted(found) == list(range(len(small)))
            for n, request in enumerate(small):
                unary = await getattr(stub(channel), request.DESCRIPTOR.name.removesuffix("Request"))(request)
                unary.ClearField("timing")
                answer = getattr(found[n], found[n].WhichOneof("response"))
                answer.ClearField("timing")
                assert answer == unary
            assert await held(channel) == (0, 0)

    asyncio.run(run())


def test_small_evaluations_are_one_batch(numba: Backend) -> None:
    """The evaluations of one message are computed together."""

    async def run() -> None:
        async with serving(numba) as (server, channel):
            request = pb.EntropyRequest(input=tensor(np.ones((8, 16))))
            opens = pb.Opens(opens=[opened(request, n) for n in range(64)])
            (response,) = await converse(channel, [pb.StreamRequest(opens=opens)])

            assert {one.entropy.timing.batch_requests for one in response.results.results} == {64}
            assert server.metrics.batches()[0] == 1

    asyncio.run(run())


def test_answers_come_while_blocks_go(numba: Backend) -> None:
    """A block's rows are answered before the next block is sent."""

    async def run() -> None:
        async with serving(numba) as (_, channel):
            request = pb.NLLRequest(
                input=tensor(np.random.default_rng(1).normal(size=(6, 4))),
                target=tensor(np.arange(6) % 4, "int64"),
                reduction=loss_pb2.REDUCTION_NONE,
            )
            talk = Talk(channel)
            sequence = list(messages(request, 7, ["input", "target"], [0, 1, 4, 6]))
            await talk.send(sequence[0])
            sizes = []
            for one in sequence[1:-1]:
                await talk.send(one)
                answer = await talk.receive()
                assert answer.block.evaluation_id == 7
                sizes.append((answer.block.first_item, list(answer.block.loss.shape)))
            await talk.send(sequence[-1])
            (last,) = await talk.rest()

            assert sizes == [(0, [1]), (1, [3]), (4, [2])]
            assert last.result.nll.summary.count == 6
            assert not last.result.nll.HasField("loss")

    asyncio.run(run())


def test_a_target_in_full_is_the_denominator(numba: Backend) -> None:
    """The gradient of a weighted mean can be streamed where target and weights are there in full."""

    async def run() -> None:
        async with serving(numba) as (_, channel):
            request = request_of("cross_entropy index", "ignored, weight", "float32", random.Random(3))
            request.reduction = 2
            cuts = [0, 1, request.input.shape[0]]
            unary = await stub(channel).CrossEntropy(request)
            unary.ClearField("timing")
            responses = await converse(channel, messages(request, 1, ["input"], cuts))

            assert whole(request, responses, 1) == unary

    asyncio.run(run())


def test_nothing_streamed_at_all(numba: Backend) -> None:
    """An input of no items ends at once, as its unary call does."""

    async def run() -> None:
        async with serving(numba) as (_, channel):
            request = pb.EntropyRequest(input=tensor(np.ones((0, 4))))
            (response,) = await converse(channel, [pb.StreamRequest(open=opened(request, 1, ["input"])), end(1)])
            unary = await stub(channel).Entropy(request)

            assert response.result.entropy.summary == unary.summary
            assert response.result.entropy.loss == unary.loss

    asyncio.run(run())


def test_an_id_can_be_used_again(numba: Backend) -> None:
    """When an evaluation has ended its id is free."""

    async def run() -> None:
        async with serving(numba) as (_, channel):
            request = pb.EntropyRequest(input=tensor(np.ones((4, 4))))
            talk = Talk(channel)
            for _ in range(3):
                await talk.send(*messages(request, 1, ["input"], [0, 2, 4]))
                assert (await talk.receive()).result.entropy.summary.count == 4
            assert await talk.rest() == []

    asyncio.run(run())
