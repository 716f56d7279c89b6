"""Small calls that come in one piece are answered together, and as they would be one by one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from lossd.v1 import service_pb2 as pb
from lossd_server.backends import Backend
from lossd_server.fast_path.burst import Burst
from lossd_server.front.http2.whole_calls import MOST_CALLS
from lossd_server.server import Server
from tests.server.front.http2 import wire
from tests.server.front.http2.listening import RawClient
from tests.server.front.http2.wire import Answer
from tests.server.messages import bce, cross_entropy
from tests.server.running import serving_at, settled

PATH = b"/lossd.v1.LossService/"


@asynccontextmanager
async def connected(backend: Backend, handshake: bytes = wire.HANDSHAKE) -> AsyncIterator[tuple[Server, RawClient]]:
    """A server that has met requests of 2 to 9 rows, and of BCE; and a connection to it."""
    async with serving_at(backend, front="http2") as (server, channel, address):
        known = [("CrossEntropy", cross_entropy(rows)) for rows in range(2, 10)] + [("BCE", bce())]
        client = await RawClient.connect(address)
        await client.send(wire.HANDSHAKE)
        for stream_id, (rpc, request) in enumerate(known * 2):
            await client.send(called(2 * stream_id + 1, rpc, request.SerializeToString()))
            await client.turn()
        client.close()
        client = await RawClient.connect(address)
        await client.send(handshake)
        await client.turn()
        client.received.clear()
        try:
            yield server, client
        finally:
            client.close()
            assert await settled(channel, 1) == (0, 0)


def called(stream_id: int, rpc: str, body: bytes, extra: Iterable[wire.Field] = ()) -> bytes:
    return wire.call(stream_id, body, path=PATH + rpc.encode(), extra=extra)


async def answered(client: RawClient, sent: bytes, count: int) -> dict[int, Answer]:
    """What came to `count` calls."""
    await client.send(sent)
    while True:
        await client.turn()
        found = wire.answers(client.frames)
        if sum(one.ended or one.reset is not None for one in found.values()) >= count:
            return found


def reason(answer: Answer) -> str:
    (said,) = (value for key, value in answer.blocks[-1].items() if key == b"grpc-status-details-bin")
    details = Status.FromString(wire.decoded(said)).details
    info = ErrorInfo()
    assert any(detail.Unpack(info) for detail in details)
    return str(info.reason)


def test_one_launch(numba: Backend) -> None:
    """Requests of any shape that come together are one batch; each has its own answer."""

    async def run() -> None:
        async with connected(numba) as (server, client):
            shapes = [2 + place % 8 for place in range(40)]
            before = server.metrics.batches()[0]
            calls = [
                called(2 * place + 1, "CrossEntropy", cross_entropy(rows).SerializeToString())
                for place, rows in enumerate(shapes)
            ]
            found = await answered(client, b"".join(calls), 40)
            responses = [pb.CrossEntropyResponse.FromString(found[2 * place + 1].messages[0]) for place in range(40)]

            assert [one.summary.count for one in responses] == shapes
            assert {one.timing.batch_requests for one in responses} == {40}
            assert {one.timing.batch_rows for one in responses} == {sum(shapes)}
            assert server.metrics.batches()[0] == before + 1

    asyncio.run(run())


def test_heads_first(numba: Backend) -> None:
    """So are calls whose heads are all sent before their messages."""

    async def run() -> None:
        async with connected(numba) as (server, client):
            before = server.metrics.batches()[0]
            body = cross_entropy(3).SerializeToString()
            numbers = range(1, 41, 2)
            head = wire.request(PATH + b"CrossEntropy")
            heads = b"".join(wire.headers(number, head, wire.END_HEADERS) for number in numbers)
            messages = b"".join(wire.data(number, wire.message(body), ends=True) for number in numbers)
            found = await answered(client, heads + messages, len(numbers))
            responses = [pb.CrossEntropyResponse.FromString(one.messages[0]) for one in found.values()]

            assert {one.timing.batch_requests for one in responses} == {len(numbers)}
            assert server.metrics.batches()[0] == before + 1

    asyncio.run(run())


def test_more_than_a_turn(numba: Backend) -> None:
    """Of more calls than one turn answers, none is lost."""

    async def run() -> None:
        async with connected(numba) as (_, client):
            body = cross_entropy(2).SerializeToString()
            count = 2 * MOST_CALLS - 10
            calls = b"".join(called(2 * place + 1, "CrossEntropy", body) for place in range(count))
            found = await answered(client, calls, count)

            assert [one.status for one in found.values()] == [0] * count

    asyncio.run(run())


def test_connections_take_turns(numba: Backend) -> None:
    """One that sends more calls than a turn answers leaves another's to the first turn."""

    async def run() -> None:
        async with connected(numba) as (_, flood):
            other = await flood.another()
            await other.send(wire.HANDSHAKE)
            await other.turn()
            body = cross_entropy(2).SerializeToString()
            calls = b"".join(called(2 * place + 1, "CrossEntropy", body) for place in range(MOST_CALLS + 36))
            flood.send_now(calls)
            other.send_now(called(1, "CrossEntropy", body))
            await answered(flood, b"", MOST_CALLS + 36)
            answer = (await answered(other, b"", 1))[1]
            other.close()

            assert pb.CrossEntropyResponse.FromString(answer.messages[0]).timing.batch_requests == MOST_CALLS

    asyncio.run(run())


def test_each_fails_alone(numba: Backend) -> None:
    """What cannot be answered among others is answered as a call by itself; its neighbours do not notice."""

    async def run() -> None:
        async with connected(numba) as (server, client):
            wrong = cross_entropy(2)
            wrong.target.data = b"\x09" + bytes(15)
            right = cross_entropy(2).SerializeToString()
            cases: list[tuple[str, bytes, list[wire.Field], str]] = [
                ("CrossEntropy", right, [], ""),
                ("CrossEntropy", wrong.SerializeToString(), [], "CLASS_OUT_OF_RANGE"),
                ("CrossEntropy", right, [(b"lossd-max-response-bytes", b"9")], "RESPONSE_TOO_LARGE"),
                ("CrossEntropy", right, [(b"lossd-request-bytes", b"9")], "REQUEST_BYTES_MISMATCH"),
                ("CrossEntropy", right, [(b"lossd-request-bytes", b"many")], "INVALID_METADATA"),
                ("CrossEntropy", b"\xff" + right, [], "MALFORMED_MESSAGE"),
                ("CrossEntropies", right, [], "UNKNOWN_METHOD"),
                ("BCE", bce().SerializeToString(), [], ""),
                ("CrossEntropy", cross_entropy(3, 5).SerializeToString(), [], ""),
                ("CrossEntropy", right, [(b"lossd-request-bytes", b"99999")], ""),
            ]
            before = server.metrics.evaluations()
            calls = [called(2 * at + 1, rpc, body, extra) for at, (rpc, body, extra, _) in enumerate(cases)]
            found = await answered(client, b"".join(calls), len(cases))

            for at, (*_, expected) in enumerate(cases):
                answer = found[2 * at + 1]
                assert (reason(answer) if answer.status else "") == expected
            right_ones = sum(not expected for *_, expected in cases)
            completed, failed = server.metrics.evaluations()
            assert completed - before[0] == right_ones
            assert failed - before[1] == len(cases) - right_ones - 1  # an unknown method is no evaluation

    asyncio.run(run())


def test_a_call_that_is_reset_has_no_answer(numba: Backend) -> None:
    """A client that resets in the same breath is not answered, and another call of it is."""

    async def run() -> None:
        async with connected(numba) as (_, client):
            body = cross_entropy(2).SerializeToString()
            both = called(1, "CrossEntropy", body) + wire.rst_stream(1) + called(3, "CrossEntropy", body)
            found = await answered(client, both, 1)

            assert 1 not in found
            assert found[3].status == 0

    asyncio.run(run())


def test_answers_wait_for_windows(numba: Backend) -> None:
    """A client that takes nothing is answered when it does, within the bounds of any call."""

    async def run() -> None:
        narrow = wire.PREFACE + wire.settings({wire.INITIAL_WINDOW: 0}) + wire.SETTINGS_ACK
        async with connected(numba, narrow) as (server, client):
            body = cross_entropy(2).SerializeToString()
            await client.send(b"".join(called(stream_id, "CrossEntropy", body) for stream_id in (1, 3, 5)))
            await client.turn()
            held = len(server.service.evaluations._calls)
            windows = b"".join(wire.window_update(stream_id, 9999) for stream_id in (1, 3, 5))
            found = await answered(client, windows, 3)

            assert held == 3
            assert [one.status for one in found.values()] == [0, 0, 0]

    asyncio.run(run())


def test_what_fails_together_is_answered_one_by_one(numba: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory runs out while calls are answered together, each goes the way of any call."""

    async def run() -> None:
        async with connected(numba) as (_, client):
            failed: list[bool] = []

            def fail(*_: object) -> list[bytes | None]:
                failed.append(True)
                raise MemoryError

            monkeypatch.setattr(Burst, "answer", fail)
            body = cross_entropy(2).SerializeToString()
            calls = b"".join(called(stream_id, "CrossEntropy", body) for stream_id in (1, 3, 5))
            found = await answered(client, calls, 3)

            assert [one.status for one in found.values()] == [8, 8, 8]
            assert {reason(one) for one in found.values()} == {"OUT_OF_MEMORY"}
            assert len(failed) == 4
            monkeypatch.undo()
            assert (await answered(client, called(7, "CrossEntropy", body), 4))[7].status == 0

    asyncio.run(run())
