"""Every way to be refused: calls that are wrong, too large, of a stranger, over a limit, too late or broken off.

Each has the codes that it may end with. The server gives back whatever such a call held, which the soak's end tells.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from lossd.v1 import loss_pb2, service_pb2, tensor_pb2
from tests.server.streaming.hostile import hostile

Code = grpc.StatusCode
Metadata = tuple[tuple[str, str], ...]
SERVICE = "/lossd.v1.LossService/"
ENTROPY = SERVICE + "Entropy"
STREAM = SERVICE + "Stream"
INFER = "/inference.GRPCInferenceService/ModelInfer"
TIMEOUT_S = 60.0
# Beyond the server's limit of a message, and beyond its limit of fields.
TOO_LARGE_BYTES = (16 << 20) + (1 << 18)
TOO_MANY = 5000
SMALL = service_pb2.EntropyRequest(
    input=tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[2, 4], data=bytes(32)),
    reduction=loss_pb2.REDUCTION_NONE,
)
# What a full or ending server may say to any call.
ALWAYS = frozenset({Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED})


@dataclass(frozen=True, slots=True)
class Caller:
    """A channel, what shows who calls, and the same of somebody who may have one call and one stream."""

    channel: Any
    known: Metadata
    limited: Metadata
    rng: random.Random

    def unary(self, body: bytes, path: str = ENTROPY, more: Metadata = (), **options: Any) -> None:
        metadata = options.pop("metadata", self.known) + more
        self.channel.unary_unary(path)(body, metadata=metadata, timeout=options.pop("timeout", TIMEOUT_S), **options)

    def stream(self, messages: Iterator[bytes], metadata: Metadata | None = None) -> Any:
        return self.channel.stream_stream(STREAM)(messages, metadata=metadata or self.known, timeout=TIMEOUT_S)


def malformed(caller: Caller) -> None:
    """Cut within its tensor, behind which the reduction has two bytes."""
    body = SMALL.SerializeToString()
    caller.unary(body[: caller.rng.randrange(1, len(body) - 2)])


def wrong_shape(caller: Caller) -> None:
    request = service_pb2.EntropyRequest()
    request.CopyFrom(SMALL)
    request.input.shape[0] = caller.rng.choice((0, -1, 3, 2**40, 2**62))
    caller.unary(request.SerializeToString())


def too_many_fields(caller: Caller) -> None:
    caller.unary(service_pb2.EntropyRequest(gradients=[loss_pb2.GRADIENT_INPUT] * TOO_MANY).SerializeToString())


def too_large(caller: Caller) -> None:
    """Said or not: a server that was told the size refuses before the body comes."""
    said = (("lossd-request-bytes", str(TOO_LARGE_BYTES)),) if caller.rng.random() < 0.5 else ()
    caller.unary(bytes(TOO_LARGE_BYTES), more=said)


def answer_too_large(caller: Caller) -> None:
    caller.unary(SMALL.SerializeToString(), more=(("lossd-max-response-bytes", "8"),))


def announced_wrongly(caller: Caller) -> None:
    caller.unary(SMALL.SerializeToString(), more=(("lossd-request-bytes", caller.rng.choice(("1", "x", "-4"))),))


def stranger(caller: Caller) -> None:
    shown: tuple[Metadata, ...] = ((), (("authorization", "Bearer unknown"),), (("authorization", "Basic eDp5"),))
    path = caller.rng.choice((ENTROPY, SERVICE + "GetServerInfo", INFER, "/lossd.v1.LossService/Nothing"))
    caller.unary(SMALL.SerializeToString(), path, metadata=caller.rng.choice(shown))


def over_a_limit(caller: Caller) -> None:
    """A second stream of somebody who may have one: the first lasts until the second has ended."""
    first = caller.stream(_waiting(), caller.limited)
    try:
        list(caller.stream(iter(()), caller.limited))
    finally:
        first.cancel()


def compressed(caller: Caller) -> None:
    caller.unary(bytes(4000), compression=grpc.Compression.Gzip)


def unknown_method(caller: Caller) -> None:
    caller.unary(b"", "/lossd.v1.LossService/Nothing")


def unknown_region(caller: Caller) -> None:
    place = tensor_pb2.SharedMemory(token=caller.rng.randbytes(16), offset=0, length=32)
    tensor = tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[2, 4], shared_memory=place)
    caller.unary(service_pb2.EntropyRequest(input=tensor).SerializeToString())


def unknown_model(caller: Caller) -> None:
    caller.unary(b"\x0a\x07nothing" if caller.rng.random() < 0.5 else b"\xff", INFER)


def too_late(caller: Caller) -> None:
    caller.unary(SMALL.SerializeToString(), timeout=10 ** caller.rng.uniform(-5, -3))


def cancelled(caller: Caller) -> None:
    body = service_pb2.EntropyRequest(
        input=tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[1000, 1000], data=bytes(4_000_000))
    )
    call = caller.channel.unary_unary(ENTROPY).future(
        body.SerializeToString(), metadata=caller.known, timeout=TIMEOUT_S
    )
    try:
        call.result(timeout=10 ** caller.rng.uniform(-4, -1.5))
    except grpc.FutureTimeoutError:
        call.cancel()


def hostile_stream(caller: Caller) -> None:
    """Messages that are lost, doubled, moved, changed and cut."""
    list(caller.stream(iter(hostile(caller.rng))))


def left_stream(caller: Caller) -> None:
    """Messages behind which no end comes: cancelled under way."""
    call = caller.stream(_waiting(hostile(caller.rng)))
    threading.Event().wait(10 ** caller.rng.uniform(-4, -1))
    call.cancel()


def _waiting(messages: list[bytes] | None = None) -> Iterator[bytes]:
    """These, and then none for as long as the call lasts: gRPC's thread that reads them is told by the call's end."""
    yield from messages or ()
    threading.Event().wait(2.0)


WRONG = frozenset({Code.INVALID_ARGUMENT})
# By name: the act, and the codes that it may end with beside ALWAYS.
REFUSALS: dict[str, tuple[Callable[[Caller], None], frozenset[grpc.StatusCode]]] = {
    "malformed": (malformed, WRONG),
    "wrong shape": (wrong_shape, WRONG),
    "too many fields": (too_many_fields, WRONG),
    "too large": (too_large, frozenset()),
    "answer too large": (answer_too_large, frozenset()),
    "announced wrongly": (announced_wrongly, WRONG | {Code.OK}),
    "a stranger": (stranger, frozenset({Code.UNAUTHENTICATED})),
    "over a limit": (over_a_limit, frozenset({Code.OK})),
    "compressed": (compressed, frozenset({Code.UNIMPLEMENTED})),
    "unknown method": (unknown_method, frozenset({Code.UNIMPLEMENTED})),
    "unknown region": (unknown_region, frozenset({Code.NOT_FOUND})),
    "unknown model": (unknown_model, WRONG | {Code.NOT_FOUND}),
    "too late": (too_late, frozenset({Code.DEADLINE_EXCEEDED, Code.OK})),
    "cancelled": (cancelled, frozenset({Code.CANCELLED, Code.OK})),
    "a hostile stream": (hostile_stream, WRONG | {Code.OK, Code.NOT_FOUND}),
    "a stream that is left": (left_stream, WRONG | {Code.OK, Code.NOT_FOUND, Code.CANCELLED}),
}


def refused(caller: Caller) -> tuple[str, str]:
    """One of them: its name, and what is wrong with its end, or ""."""
    name = caller.rng.choice(list(REFUSALS))
    act, codes = REFUSALS[name]
    code = Code.OK
    said = ""
    try:
        act(caller)
    except grpc.RpcError as error:
        code, said = error.code(), error.details() or ""
    if code in codes or code in ALWAYS:
        return name, ""
    return name, f"{name} ended with {code.name}: {said[:200]}"
