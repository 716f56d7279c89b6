"""Opens like some before them have the answers that they would have without."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError

from lossd.v1 import service_pb2 as pb
from lossd_server.backends import Backend
from lossd_server.fast_path.burst import address_of_bytes
from lossd_server.streaming.opens_walk import NOT_PLAIN, walk
from lossd_server.wire import codec
from tests.server.messages import cross_entropy
from tests.server.running import serving
from tests.server.streaming.conversation import converse, failures, opened, reason
from tests.server.streaming.hostile import damaged, requests

ALL = [request for request, _ in requests()]


def together(*of: Any) -> pb.StreamRequest:
    return pb.StreamRequest(opens=pb.Opens(opens=of))


def results(response: pb.StreamResponse) -> tuple[list[bytes], set[int]]:
    """The results without their timing, and how many requests their batches had."""
    found, batches = [], set()
    for one in response.results.results:
        answer = getattr(one, str(one.WhichOneof("response")))
        batches.add(answer.timing.batch_requests)
        answer.ClearField("timing")
        found.append(one.SerializeToString())
    return found, batches


def test_the_answers_are_the_same(numba: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that comes again is answered as before, unparsed, and its requests of one kernel as one batch."""

    async def run() -> None:
        async with serving(numba) as (_, channel):
            message = together(*(opened(request, n) for n, request in enumerate(ALL * 3)))
            (first, _), (second, _) = [results((await converse(channel, [message]))[0]) for _ in range(2)]
            monkeypatch.setattr(codec, "decode_stream", None)
            third, batches = results((await converse(channel, [message]))[0])

            assert first == second == third
            assert len(third) == len(ALL) * 3
            assert max(batches) >= 6

    asyncio.run(run())


@pytest.mark.parametrize("ids", [(1, 2, 3, 4, 5), (1, 2, 2, 3, 4), (0, 1, 1 << 62, 2**64 - 1, 7)])
def test_among_others(numba: Backend, ids: tuple[int, ...]) -> None:
    """Known requests, new ones and refused ones share a message; an id that comes twice fails both of its Opens."""

    async def run() -> None:
        async with serving(numba) as (server, channel):
            known, bad, new = cross_entropy(3), cross_entropy(3), cross_entropy(7, 5)
            bad.target.data = b"\x63" + bytes(23)
            for _ in range(2):
                await converse(channel, [together(opened(known, 1))])
            before = server.metrics.evaluations()[0]
            message = together(*(opened(one, n) for n, one in zip(ids, (known, known, known, bad, new), strict=True)))
            (response,) = await converse(channel, [message])

            wrong = {n: reason(one) for n, one in failures([response]).items()}
            twice = {n: "ID_IN_USE" for n in ids if ids.count(n) > 1}
            assert wrong == {ids[3]: "CLASS_OUT_OF_RANGE"} | twice
            completed = [one.evaluation_id for one in response.results.results if not one.HasField("failure")]
            assert completed == [n for n in ids if n not in wrong]
            assert server.metrics.evaluations()[0] == before + len(completed)

    asyncio.run(run())


def test_an_id_that_failed_is_opened_again(numba: Backend) -> None:
    """As by any Open."""

    async def run() -> None:
        async with serving(numba) as (_, channel):
            bad = cross_entropy(3)
            bad.target.data = b"\x63" + bytes(23)
            right = together(opened(cross_entropy(3), 1))
            for _ in range(2):
                await converse(channel, [right])
            responses = await converse(channel, [together(opened(bad, 1)), right])

            assert [list(failures([one])) for one in responses] == [[1], []]

    asyncio.run(run())


def test_the_walk_sees_what_the_generated_class_sees() -> None:
    """Of messages cut and changed anywhere, what the walk takes is what a parser reads, to the byte."""
    rng = random.Random(11)
    rows = np.empty((16, 4), np.int64)
    plain = 0
    for _ in range(4000):
        opens = [opened(rng.choice(ALL), rng.choice((0, 1, 300, 1 << 40, 1 << 63))) for _ in range(rng.randrange(1, 4))]
        body = together(*opens).SerializeToString()
        if rng.random() < 0.9:
            body = damaged(body, rng)
        count = walk(address_of_bytes(body), len(body), rows)
        if count == NOT_PLAIN:
            continue
        plain += 1
        try:
            request = pb.StreamRequest.FromString(body)
        except DecodeError:  # inside of a request, which the walk does not look at
            continue
        seen = [(one.evaluation_id, one.WhichOneof("request")) for one in request.opens.opens]
        fields = pb.Open.DESCRIPTOR.fields_by_number
        assert [(row[0], fields[row[1]].name) for row in rows[:count].tolist()] == seen
        for (_, _, begin, end), one in zip(rows[:count].tolist(), request.opens.opens, strict=True):
            sent = getattr(one, str(one.WhichOneof("request")))
            assert type(sent).FromString(body[begin:end]) == sent
    assert plain > 400


def test_more_opens_than_are_looked_at() -> None:
    """A message of more than there is room for is not plain."""
    body = together(*(opened(cross_entropy(), n) for n in range(3))).SerializeToString()

    assert walk(address_of_bytes(body), len(body), np.empty((2, 4), np.int64)) == NOT_PLAIN
    assert walk(address_of_bytes(body), len(body), np.empty((3, 4), np.int64)) == 3
