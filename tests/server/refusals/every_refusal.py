"""Every refusal that a client can bring about at once: what is sent, and the reason that it is refused with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import numpy as np
from google.rpc import status_pb2
from google.rpc.error_details_pb2 import ErrorInfo

from lossd.v1 import loss_pb2, tensor_pb2
from lossd.v1 import service_pb2 as pb
from lossd_server.backends import Backend
from lossd_server.jobs.job import Computed, Job, Launch
from tests.losses import test_refusals, test_refusals_by_loss
from tests.losses.messages import tensor
from tests.losses.requests import bce, cross_entropy, entropy, rpc
from tests.server.edge import GLUTTON, POISON, SECRET
from tests.server.inference.inferring import MODEL_INFER
from tests.server.inference.wrong_requests import PROTOCOL, wrong
from tests.server.messages import cross_entropy as plain
from tests.server.streaming.conversation import block, end
from tests.server.streaming.test_refusals import BOTH, blocks
from tests.server.streaming.test_refusals import REFUSED as OF_STREAMS
from tests.server.streaming.test_refusals import cross_entropy as streamable

MIB = 1 << 20
REGION_BYTES = 4 * MIB
SERVICE = "/lossd.v1.LossService/"
GOOD = plain().SerializeToString()
Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass
class Heard:
    """What a client was told: the reasons, and every text and byte of it."""

    reasons: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)

    def add(self, *said: object) -> None:
        self.text += [repr(one) for one in said]

    def details(self, packed: Iterable[Any]) -> None:
        for detail in packed:
            info = ErrorInfo()
            self.add(detail.value)
            if detail.Unpack(info):
                self.reasons.append(info.reason)

    def error(self, error: grpc.aio.AioRpcError) -> None:
        self.add(error.code(), error.details())
        for key, value in error.trailing_metadata() or ():
            self.add(key, value)
            if key == "grpc-status-details-bin":
                self.details(status_pb2.Status.FromString(value).details)


class Caller:
    """A client that calls with metadata of its own."""

    def __init__(self, channel: grpc.aio.Channel, metadata: Metadata = (), tokens: Sequence[bytes] = ()) -> None:
        self.channel: Any = channel
        self.metadata = metadata
        self.token = tokens[0] if tokens else bytes(16)  # of a region of REGION_BYTES

    async def unary(self, path: str, *messages: bytes, metadata: Metadata = (), **options: Any) -> Heard:
        heard = Heard()
        try:
            if len(messages) == 1:
                call = self.channel.unary_unary(path)(messages[0], metadata=(*self.metadata, *metadata), **options)
            else:
                call = self.channel.stream_unary(path)(_later(messages), metadata=(*self.metadata, *metadata))
            heard.add(await call)
        except grpc.aio.AioRpcError as error:
            heard.error(error)
        return heard

    async def stream(self, path: str, messages: Iterable[bytes]) -> Heard:
        """Sends all, then reads all."""
        heard = Heard()
        call = self.channel.stream_stream(path)(_later(messages), metadata=self.metadata)
        try:
            async for response in call:
                heard.add(response)
                if path.startswith(SERVICE):
                    told: Any = pb.StreamResponse.FromString(response)
                    for one in (told, *told.results.results):
                        heard.details(one.failure.details)
        except grpc.aio.AioRpcError as error:
            heard.error(error)
        return heard


async def _later(messages: Iterable[bytes]) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


Provoke = Callable[[Caller], Awaitable[Heard]]


def own(request: Any) -> Provoke:
    """As a call of the losses' service."""
    return lambda caller: caller.unary(SERVICE + rpc(request), request.SerializeToString())


def bare(*messages: bytes, metadata: Metadata = (), path: str = f"{SERVICE}CrossEntropy", **options: Any) -> Provoke:
    return lambda caller: caller.unary(path, *messages, metadata=metadata, **options)


def streamed(messages: Iterable[Any]) -> Provoke:
    bodies = [one.SerializeToString() for one in messages]
    return lambda caller: caller.stream(f"{SERVICE}Stream", bodies)


def inferred(change: Callable[[Any], object]) -> Provoke:
    body = wrong(change).SerializeToString()
    return lambda caller: caller.unary(MODEL_INFER, body)


def shared(make: Callable[[bytes], Any]) -> Provoke:
    """make: the request of a region's token."""

    def provoke(caller: Caller) -> Awaitable[Heard]:
        request = make(caller.token)
        return caller.unary(SERVICE + rpc(request), request.SerializeToString())

    return provoke


def lying(token: bytes, offset: int = 0, shape: Sequence[int] = (8, 16), length: int = -1) -> Any:
    size = int(np.prod(shape)) * 4
    place = tensor_pb2.SharedMemory(token=token, offset=offset, length=size if length < 0 else length)
    return tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=shape, shared_memory=place)


def placing(token: bytes, *offsets: int, gradients: Sequence[Any] = (loss_pb2.GRADIENT_INPUT,), **fields: Any) -> Any:
    places = [tensor_pb2.SharedMemory(token=token, offset=offset, length=512) for offset in offsets]
    placements = [loss_pb2.Placement(gradient=loss_pb2.GRADIENT_INPUT, shared_memory=place) for place in places]
    return cross_entropy(gradients=gradients, placements=placements, **fields)


def many_counts(token: bytes) -> Any:
    place = tensor_pb2.SharedMemory(token=token, length=2 * MIB)
    return tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_INT8, shape=(2, MIB), shared_memory=place)


def counts(values: Any) -> Any:
    return entropy(input=tensor(np.asarray(values, np.float32)), kind=loss_pb2.KIND_COUNTS)


DISTANT = pb.StreamRequest(
    open=pb.Open(
        evaluation_id=1,
        entropy=pb.EntropyRequest(
            input=tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[3, MIB], streamed=tensor_pb2.Streamed())
        ),
    )
)
ENDED = [*blocks(streamable(), (0, 6)), end(1)]
OPENS = pb.StreamRequest(opens=pb.Opens(opens=[pb.Open(evaluation_id=1)] * 5000))
HALF_BOOL = tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_BOOL, shape=[2, 2], data=b"\0\1\2\0")

# Reason, words after it: what brings it about.
OF_CALLS: dict[str, Provoke] = {
    "UNKNOWN_METHOD": bare(GOOD, path=f"{SERVICE}Guess"),
    "UNKNOWN_SERVICE": bare(b"\x0a\x01x", path="/grpc.health.v1.Health/Check"),
    "MALFORMED_MESSAGE": bare(b"\x0a\xff"),
    "MALFORMED_MESSAGE of a stream": lambda caller: caller.stream(f"{SERVICE}Stream", [b"\xff"]),
    "MALFORMED_MESSAGE of inference": bare(b"\x0a\xff", path=MODEL_INFER),
    "NO_MESSAGE": bare(),
    "MANY_MESSAGES": bare(GOOD, GOOD),
    "MESSAGE_TOO_LARGE": bare(bytes(MIB + 9)),
    "MESSAGE_TOO_LARGE of health": bare(bytes(5000), path="/grpc.health.v1.Health/Check"),
    "MESSAGE_TOO_LARGE announced": bare(bytes(4 * MIB), metadata=(("lossd-request-bytes", str(4 * MIB)),)),
    "REQUEST_BYTES_MISMATCH": bare(GOOD, metadata=(("lossd-request-bytes", "7"),)),
    "INVALID_METADATA": bare(GOOD, metadata=(("lossd-request-bytes", "many"),)),
    "RESPONSE_TOO_LARGE": bare(GOOD, metadata=(("lossd-max-response-bytes", "1"),)),
    "TOO_MANY_FIELDS": bare(b"\x20\x01" * 4000),
    "TOO_MANY_FIELDS of inference": bare(b"\x2a\x02\x0a\x00" * 4000, path=MODEL_INFER),
    "OUT_OF_MEMORY": own(cross_entropy(ignore_index=GLUTTON)),
    "INTERNAL": own(cross_entropy(ignore_index=POISON)),
    "CLASS_OUT_OF_RANGE": own(cross_entropy(target=tensor(np.full(8, 77), "int64"))),
    "NOT_A_PROBABILITY": own(bce(input=tensor(np.full((2, 2), 123456.75)), target=tensor(np.zeros((2, 2))))),
    "NEGATIVE_COUNT": own(counts([[1.0, -3.0]])),
    "EMPTY_COUNTS": own(counts([[0.0, 0.0]])),
    "INVALID_BOOL": own(bce(input=tensor(np.full((2, 2), 0.5)), target=HALF_BOOL)),
    "NOT_STREAMED": streamed([*blocks(streamable(), streamed=["input"]), block(streamable(), 1, BOTH, 0, 2)]),
    "ITEM_TOO_LARGE": streamed([DISTANT]),
    "ID_IN_USE": streamed([*blocks(streamable(), (0, 2)), *blocks(streamable())]),
    "END_MISSING": streamed(blocks(streamable(), (0, 2))),
    "NO_SUCH_EVALUATION that has ended": streamed([end(7), *ENDED]),
    "TOO_MANY_OPENS": streamed([OPENS]),
    "UNKNOWN_REGION": own(cross_entropy(input=lying(bytes(range(16))))),
    "OUT_OF_BOUNDS": shared(lambda token: cross_entropy(input=lying(token, REGION_BYTES))),
    "MISALIGNED": shared(lambda token: cross_entropy(input=lying(token, 2))),
    "LENGTH_MISMATCH in shared memory": shared(lambda token: cross_entropy(input=lying(token, length=7))),
    "COPIES_TOO_LARGE": shared(lambda token: entropy(input=many_counts(token), kind=loss_pb2.KIND_COUNTS)),
    "OVERLAP": shared(lambda token: placing(token, 0, input=lying(token, 0))),
    "PLACED_TWICE": shared(lambda token: placing(token, 0, 512)),
    "NOT_ASKED_FOR": shared(lambda token: placing(token, 0, gradients=())),
}


def _of_losses() -> Iterable[tuple[str, Provoke]]:
    tables = (
        *(test_refusals.TENSORS, test_refusals.SHAPES, test_refusals.DTYPES, test_refusals.OPTIONS),
        *(test_refusals_by_loss.ROW_WEIGHTS, test_refusals_by_loss.BY_PRODUCTS, test_refusals_by_loss.KINDS),
        *(test_refusals_by_loss.OPTIONS, test_refusals_by_loss.GRADIENTS, test_refusals_by_loss.TARGET_COUNTS),
    )
    for number, row in enumerate(row for table in tables for row in table):
        request, _, reason, _ = row
        yield f"{reason} of a loss {number}", own(request)


REFUSALS: dict[str, Provoke] = {
    **OF_CALLS,
    **dict(_of_losses()),
    **{f"{name} (stream)": streamed(messages) for name, messages in OF_STREAMS.items()},
    **{f"{row[3]} {row[0]}": inferred(row[1]) for row in PROTOCOL},
}


async def every_refusal(caller: Caller, at_once: int = 16) -> dict[str, Heard]:
    """Brings all of them about, some at a time; what the caller was told."""
    heard: dict[str, Heard] = {}
    waiting = list(REFUSALS.items())

    async def next_ones() -> None:
        while waiting:
            name, provoke = waiting.pop()
            heard[name] = await provoke(caller)

    await asyncio.gather(*(next_ones() for _ in range(at_once)))
    return heard


class FaultyBackend:
    """A backend that fails for the jobs that say so, and computes the others by another one."""

    name = "faulty"
    device = "the tests"
    warm_up_steps = 0
    inline_ns = 25_000.0

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def warm_up(self, report: Callable[[str], None]) -> None:
        """The other one is warm."""

    def run(self, launches: Sequence[Launch]) -> list[Computed]:
        if any(launch.job.ignore_index == POISON for launch in launches):
            raise RuntimeError(f"a bug at {SECRET}")
        if any(launch.job.ignore_index == GLUTTON for launch in launches):
            raise MemoryError
        return self._backend.run(launches)

    def kernel_ns(self, job: Job) -> float:
        return self._backend.kernel_ns(job)

    def prepare(self, launch: Launch, computed: Computed) -> None:
        """Nothing: every batch goes through `run`."""

    def room(self, jobs: int) -> None:
        """None: nothing is prepared."""

    def trim(self) -> None:
        """Nothing is kept."""

    age = trim

    def close(self) -> None:
        """The other one is closed by who made it."""
