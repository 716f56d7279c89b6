"""Memory that runs out at any stage: RESOURCE_EXHAUSTED with one ErrorInfo for whom it hit, and the server goes on."""

from __future__ import annotations

import asyncio
import errno
import mmap
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from numpy._core._exceptions import _ArrayMemoryError

import lossd_server.engine.evaluate
import lossd_server.streaming.session
from lossd.shared_memory import socket_protocol
from lossd.v1 import loss_pb2 as loss
from lossd.v1 import service_pb2 as pb
from lossd_server import losses
from lossd_server.backends import Backend
from lossd_server.backends.numba import NumbaBackend
from lossd_server.config.settings import Settings
from lossd_server.engine.batcher import Batcher
from lossd_server.engine.worker import Worker
from lossd_server.fast_path.recall import Recall
from lossd_server.front.grpcio.call import GrpcioCall
from lossd_server.front.http2.call import Http2Call
from lossd_server.rpc.unary_call import UnaryCall
from lossd_server.shared_memory.registry import RegionRegistry
from lossd_server.streaming import responses
from lossd_server.streaming.open_request import OpenRequest
from lossd_server.wire import codec
from lossd_server.wire.status import told
from tests.losses.messages import tensor
from tests.server.front.test_refusals import error_infos
from tests.server.memory_front import MemoryCall
from tests.server.running import held, raw, refused, serving, stub, until_held
from tests.server.shared_memory.listening import against
from tests.server.shared_memory.memfds import PAGE, connected, memfd
from tests.server.streaming.conversation import converse, failures, messages, opened

N, C = 64, 8
SHORTAGES: dict[str, Exception] = {
    "MemoryError": MemoryError(),
    "numpy": _ArrayMemoryError((1 << 40,), np.dtype(np.float32)),
    "ENOMEM": OSError(errno.ENOMEM, "Cannot allocate memory"),
    "EMFILE": OSError(errno.EMFILE, "Too many open files"),
}
# Where memory may run out for a unary call: who owns the function, and its name.
UNARY: dict[str, tuple[Any, str]] = {
    "reading": (GrpcioCall, "read"),
    "admission": (UnaryCall, "reserve"),
    "recall": (Recall, "find"),
    "decoding": (codec, "decode"),
    "check": (losses, "check"),
    "shared memory": (RegionRegistry, "resolve"),
    "size of the answer": (codec, "response_bytes"),
    "submission": (Worker, "submit"),
    "line": (Batcher, "put"),
    "denominator": (lossd_server.engine.evaluate, "denominator_of"),
    "kernel": (NumbaBackend, "run"),
    "finish": (lossd_server.engine.evaluate, "finish"),
    "encoding": (codec, "encode_parts"),
}
# What lossd's own front has in their place.
ON_HTTP2: dict[tuple[Any, str], tuple[Any, str]] = {
    (GrpcioCall, "read"): (Http2Call, "read"),
    (GrpcioCall, "write"): (Http2Call, "write"),
    (UnaryCall, "reserve"): (UnaryCall, "charge"),
}
STREAMED: dict[str, tuple[Any, str]] = {
    "reading": (GrpcioCall, "read"),
    "parsing": (codec, "decode_stream"),
    "opening": (lossd_server.streaming.session, "open_request"),
    "check": (losses, "check"),
    "block": (OpenRequest, "block"),
    "line": (Batcher, "put"),
    "kernel": (NumbaBackend, "run"),
    "finish": (lossd_server.engine.evaluate, "finish"),
    "answer of a block": (responses, "block"),
    "last answer": (codec, "closing"),
    "response": (responses, "stream_response"),
    "writing": (GrpcioCall, "write"),
}
COMPLETE: dict[str, tuple[Any, str]] = {
    "check": (losses, "check"),
    "line": (Batcher, "put"),
    "kernel": (NumbaBackend, "run"),
    "finish": (lossd_server.engine.evaluate, "finish"),
    "answer": (responses, "result_fields"),
    "answers": (responses, "results"),
}


def request(**fields: Any) -> pb.CrossEntropyRequest:
    rng = np.random.default_rng(1)
    given = {"input": tensor(rng.normal(size=(N, C))), "target": tensor(np.arange(N) % C, "int64")} | fields
    return pb.CrossEntropyRequest(reduction=loss.REDUCTION_NONE, **given)


def fails_once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: Exception) -> list[bool]:
    """The function raises at its first call, on either front. The list is empty until then."""
    hit: list[bool] = []

    def fail(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def once(*args: Any, **how: Any) -> Any:
            if not hit:
                hit.append(True)
                raise error
            return original(*args, **how)

        monkeypatch.setattr(owner, name, once)

    fail(owner, name)
    if (owner, name) in ON_HTTP2:
        fail(*ON_HTTP2[owner, name])
    return hit


def is_shortage(code: int, details: list[ErrorInfo]) -> bool:
    exhausted = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    return code == exhausted and [(one.reason, one.domain) for one in details] == [("OUT_OF_MEMORY", "lossd")]


def infos(failure: Any) -> list[ErrorInfo]:
    found = []
    for detail in failure.details:
        info = ErrorInfo()
        if detail.Unpack(info):
            found.append(info)
    return found


async def exchanged(channel: grpc.aio.Channel, sent: list[Any]) -> tuple[list[Any], grpc.aio.AioRpcError | None]:
    """The answers of a stream, and what it ended with where that is no OK: its end may meet a message on its way."""
    call: Any = stub(channel).Stream()
    found = []
    with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
        for one in sent:
            await call.write(one)
        await call.done_writing()
    with suppress(grpc.aio.AioRpcError):
        while (one := await call.read()) is not grpc.aio.EOF:
            found.append(one)
    code = await call.code()
    if code is grpc.StatusCode.OK:
        return found, None
    return found, grpc.aio.AioRpcError(code, await call.initial_metadata(), await call.trailing_metadata())


@pytest.mark.parametrize("shortage", SHORTAGES)
def test_what_passes_is_told_as_passing(shortage: str) -> None:
    """No memory and no descriptors: come back later; another error of the system is a fault of ours."""
    call = MemoryCall("/lossd.v1.LossService/Entropy")

    assert told("Entropy", SHORTAGES[shortage], call).reason == "OUT_OF_MEMORY"
    assert told("Entropy", SHORTAGES[shortage], call).retry_after_s
    assert told("Entropy", OSError(errno.EIO, "Input/output error"), call).reason == "INTERNAL"


@pytest.mark.parametrize("inline", [True, False], ids=["on the loop", "in the thread"])
@pytest.mark.parametrize("stage", UNARY)
def test_a_call(numba: Backend, monkeypatch: pytest.MonkeyPatch, stage: str, inline: bool) -> None:
    """A call that meets it is told so; the next one is answered, and nothing is held."""
    if stage == "recall" and Settings().front == "http2":
        pytest.skip("calls are recalled together first: test_whole_calls has what comes of that")
    if not inline:
        monkeypatch.setattr(NumbaBackend, "inline_ns", 0.0)

    async def run() -> None:
        async with serving(numba) as (_, channel):
            first = await stub(channel).CrossEntropy(request())
            hit = fails_once(monkeypatch, *UNARY[stage], MemoryError())
            error = await refused(stub(channel).CrossEntropy(request(label_smoothing=0.1)))
            again = await stub(channel).CrossEntropy(request())

            assert hit
            assert is_shortage(error.code().value[0], error_infos(error))
            assert again.loss == first.loss
            await until_held(channel, (0, 0))

    asyncio.run(run())


@pytest.mark.parametrize("stage", STREAMED)
def test_a_streamed_evaluation(numba: Backend, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    """Its evaluation, or its stream, fails with it; the next stream is answered, and nothing is held."""

    async def run() -> None:
        async with serving(numba) as (_, channel):
            sent = list(messages(request(), 1, ["input", "target"], [0, 16, N]))
            hit = fails_once(monkeypatch, *STREAMED[stage], MemoryError())
            # A write that the call's end meets would be given a status by the client itself.
            found, error = await exchanged(channel, sent[: {"reading": 0, "parsing": 1}.get(stage)])
            shortages = [(one.code, infos(one)) for one in failures(found).values()]
            told = error is None or error.details() not in (None, "Internal error from Core")  # not the status
            if error is not None and told:
                shortages.append((error.code().value[0], error_infos(error)))
            answers = await converse(channel, sent)

            assert hit
            assert [is_shortage(*one) for one in shortages] == [True] * told, (shortages, error)
            assert [one.result.evaluation_id for one in answers if one.HasField("result")] == [1]
            await until_held(channel, (0, 0))

    asyncio.run(run())


@pytest.mark.parametrize("stage", COMPLETE)
def test_complete_evaluations(numba: Backend, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    """Of several in one message those that meet it fail, or their stream; none is left without an answer."""

    async def run() -> None:
        async with serving(numba) as (_, channel):
            opens = [opened(request(label_smoothing=0.1 * number), number) for number in range(4)]
            sent = [pb.StreamRequest(opens=pb.Opens(opens=opens))]
            hit = fails_once(monkeypatch, *COMPLETE[stage], MemoryError())
            found, error = await exchanged(channel, sent)
            named = [one.evaluation_id for answer in found for one in answer.results.results]
            assert all(is_shortage(one.code, infos(one)) for one in failures(found).values())
            if error is None:
                assert sorted(named) == [0, 1, 2, 3]
            else:
                assert is_shortage(error.code().value[0], error_infos(error))
            again = await converse(channel, sent)

            assert hit
            assert failures(again) == {}
            await until_held(channel, (0, 0))

    asyncio.run(run())


def test_taking_a_batch(numba: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a batch cannot be taken from the line, it is later: what is in line has its answer."""
    monkeypatch.setattr("lossd_server.engine.worker.OUT_OF_MEMORY_RETRY_S", 0.0)

    async def run() -> None:
        async with serving(numba) as (_, channel):
            hit = fails_once(monkeypatch, Batcher, "take", MemoryError())

            assert (await stub(channel).CrossEntropy(request())).summary.count == N
            assert hit
            assert await held(channel) == (0, 0)

    asyncio.run(run())


@pytest.mark.parametrize("shortage", SHORTAGES)
def test_mapping_a_region(monkeypatch: pytest.MonkeyPatch, shortage: str) -> None:
    """A region that cannot be mapped now is refused as a full server refuses: the same connection maps it later."""
    hit = fails_once(monkeypatch, mmap, "mmap", SHORTAGES[shortage])
    file = memfd()

    def talk(path: str) -> None:
        with connected(path) as peer:
            answer = peer.hand(PAGE, file)
            assert hit
            assert isinstance(answer, tuple)
            assert answer[0] == socket_protocol.FULL
            assert isinstance(peer.hand(PAGE, file), bytes)

    against(talk)


@pytest.mark.parametrize(("depth", "expected"), [(1_000, "MALFORMED_MESSAGE"), (100_000, "TOO_MANY_FIELDS")])
def test_nesting_without_end(numba: Backend, depth: int, expected: str) -> None:
    """A message nested deeper than any parser goes is malformed: no recursion is met."""
    nested = b"\x0b" * depth  # groups of an unknown field, one in the other

    async def run() -> None:
        async with serving(numba) as (_, channel):
            error = await refused(raw(channel, "CrossEntropy")(nested))

            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert [one.reason for one in error_infos(error)] == [expected]
            assert (await stub(channel).CrossEntropy(request())).summary.count == N

    asyncio.run(run())
