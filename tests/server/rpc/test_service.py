"""LossService over a real socket: what is right is answered; what is wrong is refused, at nobody else's cost."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import pytest

from lossd.v1 import loss_pb2 as loss
from lossd.v1 import service_pb2 as service
from lossd_server import losses
from lossd_server.backends import Backend
from tests.server.edge import GLUTTON, POISON, SECRET, EdgeBackend
from tests.server.messages import bce, cross_entropy
from tests.server.running import details, finished, held, raw, raw_stream, refused, serving, stub, until_requests


def reason(error: grpc.aio.AioRpcError) -> str:
    found: str = details(error)["ErrorInfo"].reason
    return found


@pytest.mark.parametrize("inline_ns", [0.0, 1e9], ids=["thread", "inline"])
def test_good_bad_good(inline_ns: float) -> None:
    """A wrong request is refused with the field at fault, and the next one is answered as if nothing had been."""

    async def run() -> None:
        async with serving(EdgeBackend(inline_ns)) as (_, channel):
            wrong = cross_entropy()
            wrong.label_smoothing = 1.5
            first = await stub(channel).CrossEntropy(cross_entropy())
            error = await refused(stub(channel).CrossEntropy(wrong))
            second = await stub(channel).CrossEntropy(cross_entropy())

            assert first.summary.count == second.summary.count == 4
            assert first.timing.batch_requests == 1
            assert first.timing.batch_rows == 4
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            found = details(error)
            assert found["ErrorInfo"].domain == "lossd"
            assert found["BadRequest"].field_violations[0].field == "label_smoothing"
            assert "RetryInfo" not in found

    asyncio.run(run())


def test_numba(numba: Backend) -> None:
    """Logits of zeros cost ln C on the real backend."""

    async def run() -> None:
        async with serving(numba) as (_, channel):
            answer = await stub(channel).CrossEntropy(cross_entropy(4, 8))

            assert answer.summary.loss_sum == pytest.approx(8.317766166719343, rel=1e-7)

    asyncio.run(run())


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "not announced"])
@pytest.mark.parametrize("size", [1 << 20 | 9, 4 << 20], ids=["over ours", "over core's"])
def test_message_too_large(announced: bool, size: int) -> None:
    """A message over the limit is RESOURCE_EXHAUSTED, without RetryInfo; the next one is answered.

    Core refuses one that is far over it, and was not announced, without details.
    """

    async def run() -> None:
        async with serving(EdgeBackend(), max_message_bytes=1 << 20) as (_, channel):
            metadata = (("lossd-request-bytes", str(size)),) if announced else ()
            error = await refused(raw(channel, "CrossEntropy")(bytes(size), metadata=metadata))
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "RetryInfo" not in details(error)
            if announced or size < 4 << 20:
                assert reason(error) == "MESSAGE_TOO_LARGE"
            assert (await stub(channel).CrossEntropy(cross_entropy())).summary.count == 4
            assert await held(channel) == (0, 0)

    asyncio.run(run())


@pytest.mark.parametrize("count, expected", [(0, "NO_MESSAGE"), (2, "MANY_MESSAGES")])
def test_exactly_one_message(count: int, expected: str) -> None:
    """A unary call with no message, or with two, is INVALID_ARGUMENT."""

    async def run() -> None:
        async with serving(EdgeBackend()) as (_, channel):
            messages = [cross_entropy().SerializeToString()] * count
            error = await refused(raw_stream(channel, "CrossEntropy")(iter(messages)))

            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert reason(error) == expected

    asyncio.run(run())


@pytest.mark.parametrize("value", ["", "-1", "ten", "1e3", "9" * 30])
def test_announced_size_that_is_none(value: str) -> None:
    """`lossd-request-bytes` that is no decimal number is INVALID_ARGUMENT before a message has come."""

    async def run() -> None:
        async with serving(EdgeBackend()) as (_, channel):
            metadata = (("lossd-request-bytes", value),)
            error = await refused(raw_stream(channel, "CrossEntropy")(metadata=metadata))  # it sends none

            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert reason(error) == "INVALID_METADATA"
            assert await held(channel) == (0, 0)

    asyncio.run(run())


def test_announced_less_than_sent() -> None:
    """A message larger than it was announced is INVALID_ARGUMENT: it would go round the budget."""

    async def run() -> None:
        async with serving(EdgeBackend()) as (_, channel):
            metadata = (("lossd-request-bytes", "1"),)
            error = await refused(stub(channel).CrossEntropy(cross_entropy(), metadata=metadata))

            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert reason(error) == "REQUEST_BYTES_MISMATCH"
            assert await held(channel) == (0, 0)

    asyncio.run(run())


def test_answer_larger_than_the_client_takes() -> None:
    """An answer over `lossd-max-response-bytes` is refused before anything is computed."""

    async def run() -> None:
        backend = EdgeBackend()
        async with serving(backend) as (_, channel):
            request = cross_entropy(100, 100)
            request.gradients.append(loss.GRADIENT_INPUT)
            metadata = (("lossd-max-response-bytes", "1000"),)
            error = await refused(stub(channel).CrossEntropy(request, metadata=metadata))

            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert reason(error) == "RESPONSE_TOO_LARGE"
            assert backend.runs == []

    asyncio.run(run())


def test_full() -> None:
    """A request that the byte budget has no room for is RESOURCE_EXHAUSTED with RetryInfo and a pushback."""

    async def run() -> None:
        backend = EdgeBackend()
        async with serving(backend, max_message_bytes=4096, max_inflight_bytes=4096) as (_, channel):
            request = cross_entropy(100, 8)
            size = request.ByteSize()
            assert size > 2048
            backend.gate.clear()
            announced = (("lossd-request-bytes", str(size)),)
            first = stub(channel).CrossEntropy(request, metadata=announced)
            first_answer = finished(first)
            await asyncio.to_thread(backend.until_entered)
            error = await refused(stub(channel).CrossEntropy(request, metadata=announced))
            backend.gate.set()

            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert details(error)["RetryInfo"].retry_delay.ToMilliseconds() == 100
            assert ("grpc-retry-pushback-ms", "100") in tuple(error.trailing_metadata())
            assert (await first_answer).summary.count == 100
            assert (await stub(channel).CrossEntropy(request, metadata=announced)).summary.count == 100

    asyncio.run(run())


@pytest.mark.parametrize("inline_ns", [0.0, 1e9], ids=["thread", "inline"])
def test_64_concurrent(inline_ns: float) -> None:
    """64 concurrent calls of two losses and of many sizes are each answered with their own losses."""

    async def run() -> None:
        async with serving(EdgeBackend(inline_ns), max_inflight_bytes=32 << 20) as (_, channel):
            rows = [1 + 37 * index % 1000 for index in range(32)]
            calls = []
            for count in rows:
                by_row, by_element = cross_entropy(count, 50), bce(count)
                by_row.reduction = by_element.reduction = loss.REDUCTION_NONE
                calls += [stub(channel).CrossEntropy(by_row), stub(channel).BCE(by_element)]
            answers = await asyncio.gather(*map(finished, calls))

            assert [list(answer.loss.shape) for answer in answers] == [[count] for count in rows for _ in range(2)]
            assert [answer.summary.count for answer in answers] == [count for count in rows for _ in range(2)]
            assert await held(channel) == (0, 0)

    asyncio.run(run())


def test_batch_grows_while_busy() -> None:
    """What arrives while the worker is busy makes one batch."""

    async def run() -> None:
        backend = EdgeBackend()
        async with serving(backend) as (_, channel):
            backend.gate.clear()
            calls = [finished(stub(channel).CrossEntropy(cross_entropy()))]
            await asyncio.to_thread(backend.until_entered)
            calls += [finished(stub(channel).CrossEntropy(cross_entropy())) for _ in range(5)]
            await until_requests(channel, 6)
            # All six are held; those behind the first are in line once a later call has been through the same path.
            await refused(stub(channel).CrossEntropy(service.CrossEntropyRequest()))
            backend.gate.set()
            answers = await asyncio.gather(*calls)

            assert [len(jobs) for jobs in backend.runs] == [1, 5]
            assert [answer.timing.batch_requests for answer in answers] == [1, 5, 5, 5, 5, 5]

    asyncio.run(run())


@pytest.mark.parametrize(
    "poison, code, expected",
    [
        (POISON, grpc.StatusCode.INTERNAL, "INTERNAL"),
        (GLUTTON, grpc.StatusCode.RESOURCE_EXHAUSTED, "OUT_OF_MEMORY"),
    ],
)
@pytest.mark.parametrize("inline_ns", [0.0, 1e9], ids=["thread", "inline"])
def test_poison_stays_alone(poison: int, code: grpc.StatusCode, expected: str, inline_ns: float) -> None:
    """A request that the backend cannot bear fails alone, and no word of the failure itself reaches the wire."""

    async def run() -> None:
        async with serving(EdgeBackend(inline_ns)) as (_, channel):
            good = [finished(stub(channel).CrossEntropy(cross_entropy())) for _ in range(8)]
            error = await refused(stub(channel).CrossEntropy(cross_entropy(ignore_index=poison)))
            answers = await asyncio.gather(*good)

            assert [answer.summary.count for answer in answers] == [4] * 8
            assert error.code() is code
            assert reason(error) == expected
            assert SECRET not in str(error) + str(details(error))
            assert ("request_id" in details(error)["ErrorInfo"].metadata) == (poison == POISON)

    asyncio.run(run())


def test_compressed() -> None:
    """A compressed message is UNIMPLEMENTED without being unpacked: one that would then be too large is, too."""

    async def run() -> None:
        async with serving(EdgeBackend(), max_message_bytes=1 << 20) as (_, channel):
            for body in (cross_entropy(100, 100).SerializeToString(), bytes(16 << 20)):
                error = await refused(raw(channel, "CrossEntropy")(body, compression=grpc.Compression.Gzip))
                assert error.code() is grpc.StatusCode.UNIMPLEMENTED
            assert (await stub(channel).CrossEntropy(cross_entropy())).summary.count == 4
            assert await held(channel) == (0, 0)

    asyncio.run(run())


def test_server_info() -> None:
    """GetServerInfo tells the limits that are enforced and what has been done so far."""

    async def run() -> None:
        async with serving(EdgeBackend(), max_message_bytes=1 << 20, max_deadline_s=7.0) as (_, channel):
            await stub(channel).CrossEntropy(cross_entropy())
            await refused(stub(channel).CrossEntropy(service.CrossEntropyRequest()))
            info = await stub(channel).GetServerInfo(service.GetServerInfoRequest())

            assert info.limits.max_message_bytes == 1 << 20
            assert info.limits.max_deadline_s == 7.0
            assert info.limits.max_rank == 8
            assert list(info.losses) == sorted(losses.SERVED)
            assert (info.device, list(info.backends)) == ("the tests", ["edge"])
            assert len(info.instance_id) == 32
            assert (info.statistics.completed, info.statistics.failed) == (1, 1)
            assert (info.statistics.batches, info.statistics.rows) == (1, 4)

    asyncio.run(run())
