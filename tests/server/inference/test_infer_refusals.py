"""What ModelInfer refuses: with the loss's own code, reason, field and sentence, and with its own where it has more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lossd.v1 import tensor_pb2 as pb
from lossd_server.backends import Backend
from lossd_server.inference.models import DATATYPES
from lossd_server.inference.protocol import ModelStreamInferResponse
from lossd_server.server import Server
from tests.losses import test_refusals, test_refusals_by_loss
from tests.losses.messages import tensor, zeros
from tests.losses.requests import bce, cross_entropy, rpc
from tests.server.edge import POISON, EdgeBackend
from tests.server.inference.inferring import (
    MODEL_INFER,
    Handle,
    NotSayable,
    inferred,
    refusal_of,
    streamed,
    with_server,
)
from tests.server.inference.wrong_requests import PROTOCOL, wrong

TABLES = (
    *(test_refusals.TENSORS, test_refusals.SHAPES, test_refusals.DTYPES, test_refusals.OPTIONS),
    *(test_refusals_by_loss.ROW_WEIGHTS, test_refusals_by_loss.BY_PRODUCTS, test_refusals_by_loss.KINDS),
)
WRONG_VALUES = [
    cross_entropy(target=tensor([0, 1, 2, 3, 4, 5, 6, 16], "int64")),
    bce(input=tensor([[0.5, 1.5]]), target=tensor([[0.0, 1.0]])),
]


def both(handle: Handle, request: Any) -> Any:
    """What each way says of a wrong request. Raises NotSayable."""
    message = inferred(request).SerializeToString()

    async def told() -> tuple[Any, Any]:
        own = await handle(f"/lossd.v1.LossService/{rpc(request)}", request.SerializeToString())
        return refusal_of(own), refusal_of(await handle(MODEL_INFER, message))

    return told()


def test_the_same_as_the_losses_own_calls(numba: Backend) -> None:
    """Every wrong request of the losses' tests that the protocol can say, and values that are found in the pass."""

    async def body(handle: Handle, _: Server) -> None:
        count = 0
        for request in [*(row[0] for table in TABLES for row in table), *WRONG_VALUES * 3]:
            try:
                answers = both(handle, request)
            except NotSayable:
                continue
            own, (*other, sentence) = await answers
            count += 1
            assert (*other, sentence.replace("ModelInferRequest", f"{rpc(request)}Request")) == own
        assert count > 100

    with_server(numba, body)


@pytest.mark.parametrize("change, expected", [(row[1], row[2:]) for row in PROTOCOL], ids=[row[0] for row in PROTOCOL])
def test_what_the_protocol_adds(change: Callable[[Any], object], expected: tuple[str, str, str, str]) -> None:
    """One ErrorInfo and the field at fault, unary and, with the same words, as one message of a stream."""
    message = wrong(change).SerializeToString()
    good = inferred(cross_entropy()).SerializeToString()

    async def body(handle: Handle, server: Server) -> None:
        code, reason, field, sentence = refusal_of(await handle(MODEL_INFER, message))
        assert (code, reason) == expected[:2]
        if expected[2]:
            assert field == expected[2]
        assert expected[3] in sentence
        bad, answered = await streamed(server.routes, [message, good])
        told = f"{code} {reason} {field}".strip()
        assert stream_message(bad).error_message == f"{told}: {sentence}"
        assert not stream_message(answered).error_message

    with_server(EdgeBackend(), body)


def stream_message(body: bytes) -> Any:
    return ModelStreamInferResponse.FromString(body)


def test_a_fault_of_ours_is_internal() -> None:
    """A request id, and none of what went wrong: unary and in a stream."""

    async def body(handle: Handle, server: Server) -> None:
        message = inferred(cross_entropy(ignore_index=POISON)).SerializeToString()
        code, reason, _, sentence = refusal_of(await handle(MODEL_INFER, message))
        (streamed_body,) = await streamed(server.routes, [message])
        said = stream_message(streamed_body)

        assert (code, reason) == ("INTERNAL", "INTERNAL")
        assert "secret" not in sentence + said.error_message
        assert said.infer_response.parameters["reason"].string_param == "INTERNAL"

    with_server(EdgeBackend(), body)


def test_an_answer_that_would_be_too_large() -> None:
    """Refused before it is computed, as of the losses' own calls."""

    async def body(handle: Handle, _: Server) -> None:
        message = inferred(cross_entropy(input=zeros(100, 100), target=zeros(100, dtype=pb.DATA_TYPE_INT64)))
        message.outputs.add(name="input_gradient")
        most = (("lossd-max-response-bytes", "40000"),)
        code, reason, _field, sentence = refusal_of(await handle(MODEL_INFER, message.SerializeToString(), most))

        assert (code, reason) == ("RESOURCE_EXHAUSTED", "RESPONSE_TOO_LARGE")
        assert "bytes, the client takes 40000" in sentence

    with_server(EdgeBackend(), body)


def test_a_timeout_in_microseconds_ends_a_request() -> None:
    """DEADLINE_EXCEEDED once it is over, whatever the call's own deadline."""

    async def body(handle: Handle, _: Server) -> None:
        message = inferred(cross_entropy())
        message.parameters["timeout"].int64_param = 1
        answer = await handle(MODEL_INFER, message.SerializeToString())

        assert refusal_of(answer)[:2] == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")

    with_server(EdgeBackend(), body)


def test_every_datatype_is_taken() -> None:
    """The table names what the losses take but the 8-bit floats, which the protocol does not have."""
    names = {name for name, number in pb.DataType.items() if number in DATATYPES.values()}

    assert set(pb.DataType.keys()) - names == {
        "DATA_TYPE_UNSPECIFIED",
        "DATA_TYPE_FLOAT8_E4M3FN",
        "DATA_TYPE_FLOAT8_E5M2",
    }
