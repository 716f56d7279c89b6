"""Small requests like one before: what they are answered by, and that it changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lossd.v1 import loss_pb2 as loss
from lossd.wire import varint
from lossd_server.backends import Backend
from lossd_server.call.contract import WholeCall
from lossd_server.inference.templates import ALIKE
from lossd_server.server import Server
from tests.losses.messages import tensor
from tests.losses.requests import activation, bce, cross_entropy, entropy
from tests.server.inference.inferring import (
    MODEL_INFER,
    Handle,
    inferred,
    own_outputs,
    own_response,
    refusal_of,
    response_of,
    unpacked,
    with_server,
)

RNG = np.random.default_rng(11)


def numbers(rows: int = 8, classes: int = 16, **fields: Any) -> Any:
    labels = tensor(RNG.integers(0, classes, rows), "int64")
    return cross_entropy(**{"input": tensor(RNG.normal(size=(rows, classes))), "target": labels, **fields})


MAKERS = [
    (lambda: numbers(gradients=[loss.GRADIENT_INPUT]), 1),
    (lambda: numbers(weight=tensor(np.arange(16)), label_smoothing=0.1, reduction=loss.REDUCTION_NONE), 1),
    (lambda: numbers(target=tensor(RNG.dirichlet(np.ones(16), 8)), gradients=[1, 2]), 1),
    (lambda: numbers(outputs=[1, 3]), 0),
    (lambda: entropy(input=tensor(RNG.dirichlet(np.ones(16), 8)), gradients=[1]), 1),
    (lambda: bce(input=tensor(RNG.random((4, 4))), target=tensor(RNG.random((4, 4))), gradients=[1, 2]), 1),
    (lambda: activation(input=tensor(RNG.normal(size=(4, 4))), gradients=[1]), 1),
]


@pytest.mark.parametrize("make, known", MAKERS, ids=range(len(MAKERS)))
def test_numbers_are_put_into_what_was_made_before(numba: Backend, make: Any, known: int) -> None:
    """Requests that differ in numbers alone are answered with the bits of the losses' own calls; those that ask for
    auxiliary outputs are not known."""

    async def body(handle: Handle, server: Server) -> None:
        for _round in range(5):
            request = make()
            own = await handle(f"/lossd.v1.LossService/{path(request)}", request.SerializeToString())
            answer = await handle(MODEL_INFER, inferred(request).SerializeToString())
            assert unpacked(response_of(answer)) == own_outputs(own_response(request, own), request)
        assert server.inference._templates._count == known

    with_server(numba, body)


def path(request: Any) -> str:
    name: str = request.DESCRIPTOR.name
    return name.removesuffix("Request")


def test_whole_calls_are_answered_in_a_burst(numba: Backend) -> None:
    """Calls of both services that are here whole, together; what is not known is left to the general way."""
    own, other = numbers(), numbers()
    inference = inferred(other).SerializeToString()
    calls = [
        WholeCall("/lossd.v1.LossService/CrossEntropy", (), own.SerializeToString()),
        WholeCall(MODEL_INFER, (), inference),
        WholeCall(MODEL_INFER, (), inferred(numbers(), "another").SerializeToString()),
        WholeCall(MODEL_INFER, (("lossd-max-response-bytes", "10"),), inference),
        WholeCall(MODEL_INFER, (("lossd-request-bytes", "10"),), inference),
        WholeCall("/inference.GRPCInferenceService/ServerLive", (), b""),
    ]

    async def body(handle: Handle, server: Server) -> None:
        for _round in range(3):
            first = response_of(await handle(MODEL_INFER, inference))
            await handle(calls[0].method, calls[0].message)
        found = server.routes.at_once(calls)

        assert [answer is not None for answer in found] == [True, True, False, False, False, False]
        assert found[1] is not None
        assert unpacked(response_of(found[1])) == unpacked(first)
        assert server.inference._statistics.response(["cross_entropy"]).model_stats[0].inference_count == 4

    with_server(numba, body)


def test_a_wrong_class_is_refused_as_ever(numba: Backend) -> None:
    """Values are checked where they are used, in a request that is recalled too."""

    async def body(handle: Handle, _: Server) -> None:
        for _round in range(3):
            await handle(MODEL_INFER, inferred(numbers()).SerializeToString())
        wrong = inferred(numbers(target=tensor([0, 1, 2, 3, 4, 5, 6, 77], "int64"))).SerializeToString()

        assert refusal_of(await handle(MODEL_INFER, wrong))[:3] == ("INVALID_ARGUMENT", "CLASS_OUT_OF_RANGE", "target")

    with_server(numba, body)


def test_contents_elsewhere_are_no_template(numba: Backend) -> None:
    """Bytes at the message's end that only look like raw contents, in a field that the protocol does not have, are not
    taken for them."""

    async def body(handle: Handle, server: Server) -> None:
        message = inferred(numbers(2, 3, target=tensor([1, 2], "int64")))
        message.raw_input_contents[0] = bytes(24)
        zeros = b"".join(b"\x3a" + varint(len(one)) + one for one in message.raw_input_contents)
        disguised = message.SerializeToString() + b"\x7a" + varint(len(zeros)) + zeros
        expected = unpacked(response_of(await handle(MODEL_INFER, message.SerializeToString())))
        for _ in range(3):
            assert unpacked(response_of(await handle(MODEL_INFER, disguised))) == expected
        assert server.inference._templates._count == 0

    with_server(numba, body)


def test_what_is_kept_is_bounded(numba: Backend) -> None:
    """Requests of ever other lengths and options are all answered."""

    async def body(handle: Handle, server: Server) -> None:
        for n in range(3 * ALIKE):
            for _ in range(2):
                await handle(MODEL_INFER, inferred(numbers(label_smoothing=(n + 1) / 100)).SerializeToString())
            assert server.inference._templates._count <= ALIKE

    with_server(numba, body)
