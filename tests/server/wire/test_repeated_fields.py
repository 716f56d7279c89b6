"""Every field that a client may repeat has a bound, which is looked at before anything is computed or copied."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from lossd.v1 import loss_pb2, service_pb2, tensor_pb2
from lossd_server.call.contract import Status
from lossd_server.inference.protocol import FILE
from tests.losses.requests import cross_entropy
from tests.server.edge import EdgeBackend
from tests.server.inference.inferring import MODEL_INFER
from tests.server.inference.wrong_requests import wrong
from tests.server.memory_front import MemoryCall, handled, reasons
from tests.server.messages import cross_entropy as plain
from tests.server.running import serving

CROSS_ENTROPY, STREAM = "/lossd.v1.LossService/CrossEntropy", "/lossd.v1.LossService/Stream"
SERVER_INFO = "/lossd.v1.LossService/GetServerInfo"
GOOD = plain().SerializeToString()
MANY = 100_000


def own(**fields: Any) -> bytes:
    body: bytes = cross_entropy(**fields).SerializeToString()
    return body


def shape(count: int) -> bytes:
    return own(input=tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[1] * count, data=bytes(4)))


def placements(count: int) -> bytes:
    return own(gradients=[loss_pb2.GRADIENT_INPUT], placements=[loss_pb2.Placement()] * count)


def opens(count: int) -> bytes:
    of = service_pb2.Opens(opens=[service_pb2.Open()] * count)
    return service_pb2.StreamRequest(opens=of).SerializeToString()


def inferred(change: Callable[[Any, int], object]) -> Callable[[int], bytes]:
    def body(count: int) -> bytes:
        message: bytes = wrong(lambda m: change(m, count)).SerializeToString()
        return message

    return body


def add(field: str, /, **fields: Any) -> Callable[[Any, int], object]:
    """Entries of a `field` of the message, the same again and again."""
    return lambda message, count: [getattr(message, field).add(**fields) for _ in range(count)]


def typed(name: str, value: Any) -> Callable[[int], bytes]:
    """Contents of the first input, in the field `name`."""

    def change(message: Any, count: int) -> None:
        del message.raw_input_contents[:]
        getattr(message.inputs[0].contents, name).extend([value] * count)

    return inferred(change)


def named(message: Any, count: int) -> None:
    for number in range(count):
        message.parameters[f"p{number}"].bool_param = True


def of_one(part: str) -> Callable[[Any, int], object]:
    """Parameters of the first input or output."""

    def change(message: Any, count: int) -> None:
        if part == "outputs":
            message.outputs.add(name="loss")
        for number in range(count):
            getattr(message, part)[0].parameters[f"p{number}"].bool_param = True

    return change


INPUT_SHAPE = "inference.ModelInferRequest.InferInputTensor.shape"
# Where: (path, body of so many entries, one more than are taken, the reason for that).
BOUNDS: dict[str, tuple[str, Callable[[int], bytes], int, str]] = {
    "gradients": (CROSS_ENTROPY, lambda n: own(gradients=[loss_pb2.GRADIENT_INPUT] * n), 9, "OPTION_OUT_OF_RANGE"),
    "outputs": (CROSS_ENTROPY, lambda n: own(outputs=[loss_pb2.OUTPUT_LSE] * n), 9, "OPTION_OUT_OF_RANGE"),
    "placements": (CROSS_ENTROPY, placements, 9, "OPTION_OUT_OF_RANGE"),
    "lossd.v1.Tensor.shape": (CROSS_ENTROPY, shape, 9, "RANK_TOO_LARGE"),
    "lossd.v1.Opens.opens": (STREAM, opens, 4097, "TOO_MANY_OPENS"),
    "inference.ModelInferRequest.inputs": (
        MODEL_INFER, inferred(add("inputs", name="input")), 1, "DUPLICATE_INPUT"),
    "inference.ModelInferRequest.outputs": (
        MODEL_INFER, inferred(add("outputs", name="loss")), 2, "DUPLICATE_OUTPUT"),
    "inference.ModelInferRequest.parameters": (MODEL_INFER, inferred(named), 1, "UNKNOWN_PARAMETER"),
    "inference.ModelInferRequest.raw_input_contents": (
        MODEL_INFER, inferred(lambda m, n: m.raw_input_contents.extend([b""] * n)), 1, "CONTENTS_MISMATCH"),
    INPUT_SHAPE: (MODEL_INFER, inferred(lambda m, n: m.inputs[0].shape.extend([1] * n)), 7, "RANK_TOO_LARGE"),
    "inference.ModelInferRequest.InferInputTensor.parameters": (
        MODEL_INFER, inferred(of_one("inputs")), 1, "UNKNOWN_PARAMETER"),
    "inference.ModelInferRequest.InferRequestedOutputTensor.parameters": (
        MODEL_INFER, inferred(of_one("outputs")), 1, "UNKNOWN_PARAMETER"),
    "inference.InferTensorContents.fp32_contents": (MODEL_INFER, typed("fp32_contents", 0.5), 129, "LENGTH_MISMATCH"),
    **{
        f"inference.InferTensorContents.{name}": (MODEL_INFER, typed(name, value), 1, "CONTENTS_NOT_TAKEN")
        for name, value in {
            "bool_contents": True, "int_contents": 1, "int64_contents": 1, "uint_contents": 1, "uint64_contents": 1,
            "fp64_contents": 0.5, "bytes_contents": b"x",
        }.items()
    },
}  # fmt: skip
# What is said of a hundred thousand, where it is met before the field's own bound.
OF_MANY = {"CONTENTS_NOT_TAKEN", "LENGTH_MISMATCH", "TOO_MANY_FIELDS", "CONTENTS_MISMATCH", "REQUEST_TOO_LONG"}


def repeated(messages: Iterable[Descriptor]) -> set[str]:
    """Every repeated field that lies in one of the messages, by its full name."""
    found: set[str] = set()
    waiting, seen = list(messages), set()
    while waiting:
        message = waiting.pop()
        if message.full_name in seen:
            continue
        seen.add(message.full_name)
        found |= {one.full_name for one in message.fields if one.is_repeated}
        waiting += [one.message_type for one in message.fields if one.message_type is not None]
    return found


def test_every_repeated_field_is_known() -> None:
    """Of the losses' calls and of inference; health and reflection have none, in messages of 4 KiB."""
    services = (service_pb2.DESCRIPTOR.services_by_name["LossService"], FILE.services_by_name["GRPCInferenceService"])
    found = repeated(method.input_type for service in services for method in service.methods)
    requests: tuple[Any, ...] = (health_pb2.HealthCheckRequest, reflection_pb2.ServerReflectionRequest)
    beside = repeated(request.DESCRIPTOR for request in requests)

    assert {name if name in BOUNDS else name.rpartition(".")[2] for name in found} == set(BOUNDS)
    assert beside == set()


@pytest.mark.parametrize("name", BOUNDS)
def test_more_than_are_taken(name: str) -> None:
    """One more, and a hundred thousand: refused, nothing computed, nothing held."""
    path, body, most, reason = BOUNDS[name]
    backend = EdgeBackend()

    async def refusals(count: int) -> set[str]:
        async with serving(backend) as (server, _):
            answer = await handled(server.routes, MemoryCall(path, [body(count)]))
            assert isinstance(answer, Status)
            told = await handled(server.routes, MemoryCall(SERVER_INFO, [b""]))
            assert isinstance(told, bytes)
            held = service_pb2.GetServerInfoResponse.FromString(told).statistics
            assert (held.inflight_bytes, held.inflight_requests) == (0, 0)
            return set(reasons(answer))

    assert asyncio.run(refusals(most)) == {reason}
    assert asyncio.run(refusals(MANY)) <= OF_MANY | {reason}
    assert backend.runs == []


def test_placements_are_counted_before_tensors_are_looked_up() -> None:
    """A request that is wrong in both is told of their number."""
    place = tensor_pb2.SharedMemory(token=bytes(16), length=512)
    there = tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[8, 16], shared_memory=place)
    body = own(input=there, placements=[loss_pb2.Placement()] * 9)

    async def run() -> None:
        async with serving(EdgeBackend()) as (server, _):
            answer = await handled(server.routes, MemoryCall(CROSS_ENTROPY, [body]))
            assert isinstance(answer, Status)
            assert reasons(answer) == ["OPTION_OUT_OF_RANGE"]

    asyncio.run(run())
