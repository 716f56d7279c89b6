"""ModelInfer answers what the losses' own calls answer, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lossd.request.build import METHODS
from lossd.v1 import loss_pb2 as loss
from lossd.v1.service_pb2 import CrossEntropyRequest
from lossd_server.backends import Backend
from lossd_server.call.contract import Status
from lossd_server.inference.models import DATATYPES, GRADIENTS, MODELS
from lossd_server.inference.protocol import ModelInferRequest
from lossd_server.server import Server
from tests.losses.messages import tensor
from tests.losses.requests import rpc
from tests.server.engine.every_loss import ones, requests
from tests.server.inference.inferring import (
    MODEL_INFER,
    Handle,
    NotSayable,
    inferred,
    own_outputs,
    own_response,
    response_of,
    unpacked,
    with_server,
)

RNG = np.random.default_rng(7)
LOGITS, LABELS = RNG.normal(0, 3, (8, 16)), RNG.integers(0, 16, 8)


def cross_entropy(**fields: Any) -> Any:
    return CrossEntropyRequest(**{"input": tensor(LOGITS), "target": tensor(LABELS, "int64"), **fields})


async def same(handle: Handle, request: Any, request_id: str = "7") -> None:
    """Asserts that both ways give the same."""
    own = own_response(request, await handle(f"/lossd.v1.LossService/{rpc(request)}", request.SerializeToString()))
    answer = response_of(await handle(MODEL_INFER, inferred(request, request_id).SerializeToString()))

    assert unpacked(answer) == own_outputs(own, request)
    assert (answer.model_version, answer.id) == ("1", request_id)


def test_every_loss_and_dtype(numba: Backend) -> None:
    """Every loss with every dtype that the protocol has, the first time and once it is recalled."""

    async def body(handle: Handle, _: Server) -> None:
        count = 0
        for _name, request in requests(4, 6):
            try:
                inferred(request)
            except NotSayable:
                continue
            count += 1
            for request_id in ("", "7", "", ""):
                await same(handle, request, request_id)
        assert count > 100

    with_server(numba, body)


OPTIONS = [
    {"reduction": loss.REDUCTION_NONE},
    {"reduction": loss.REDUCTION_SUM, "grad_output": tensor(2.5)},
    {"ignore_index": 3, "label_smoothing": 0.1, "base": 2.0, "z_loss": 0.25, "softcap": 30.0},
    {"weight": tensor(RNG.random(16)), "row_weight": tensor(RNG.random(8)), "normalizer": 3.0},
    {"gradients": [loss.GRADIENT_INPUT], "outputs": [1, 2, 3, 4]},
    {"target": tensor(RNG.dirichlet(np.ones(16), 8)), "gradients": [1, 2, 3], "weight": tensor(RNG.random(16))},
    {"ignore_index": 0, "empty_mean": loss.EMPTY_MEAN_ZERO, "target": tensor(np.zeros(8), "int64")},
    {"kind": loss.KIND_LOG_PROBABILITIES, "target_kind": loss.KIND_INDICES},
]


@pytest.mark.parametrize("options", OPTIONS, ids=range(len(OPTIONS)))
def test_options_are_parameters(numba: Backend, options: dict[str, Any]) -> None:
    """Every option of cross-entropy, and every tensor beside input and target."""
    with_server(numba, lambda handle, _: same(handle, cross_entropy(**options)))


@pytest.mark.parametrize("shape", [(300, 2000), (3, 4, 5, 6), (0, 7), (16,)])
def test_shapes(numba: Backend, shape: tuple[int, ...]) -> None:
    """Large ones, whose elements are not copied, and small, empty and one-dimensional ones."""
    labels = np.zeros(shape[:1] + shape[2:] if len(shape) > 1 else (), np.int64)
    request = cross_entropy(
        input=tensor(RNG.normal(size=shape)), target=tensor(labels, "int64"), gradients=[loss.GRADIENT_INPUT]
    )

    with_server(numba, lambda handle, _: same(handle, request))


def test_outputs_come_as_they_are_asked_for(numba: Backend) -> None:
    """Only those that are named, in that order; all that need not be asked for where none is."""

    async def body(handle: Handle, _: Server) -> None:
        for _round in range(3):
            for names in (("input_gradient", "count"), ("correct", "loss"), ("weight_sum",), ()):
                message = inferred(cross_entropy(), outputs=names)
                answer = response_of(await handle(MODEL_INFER, message.SerializeToString()))
                assert tuple(unpacked(answer)) == (names or ("loss", "loss_sum", "weight_sum", "count"))

    with_server(numba, body)


@pytest.mark.parametrize(
    "name, kind, value, own",
    [
        ("label_smoothing", "double_param", 0.25, 0.25),
        ("label_smoothing", "string_param", "2.5e-1", 0.25),
        ("label_smoothing", "int64_param", 1, 1.0),
        ("label_smoothing", "uint64_param", 0, 0.0),
        ("ignore_index", "int64_param", -100, -100),
        ("ignore_index", "uint64_param", 5, 5),
        ("ignore_index", "string_param", "+5", 5),
        ("reduction", "string_param", "sum", loss.REDUCTION_SUM),
    ],
)
def test_numbers_in_every_form(numba: Backend, name: str, kind: str, value: Any, own: Any) -> None:
    """Doubles, integers and text: older clients of the protocol know no doubles."""

    async def body(handle: Handle, _: Server) -> None:
        message = inferred(cross_entropy())
        setattr(message.parameters[name], kind, value)
        answer = response_of(await handle(MODEL_INFER, message.SerializeToString()))
        request = cross_entropy(**{name: own})
        expected = await handle("/lossd.v1.LossService/CrossEntropy", request.SerializeToString())

        assert unpacked(answer) == own_outputs(own_response(request, expected), request)

    with_server(numba, body)


def test_the_models_are_the_clients_methods() -> None:
    """Names, and what each takes, follow from the contract that the client is made of."""
    assert {name: model.rpc for name, model in MODELS.items()} == {name: one.rpc for name, one in METHODS.items()}
    assert {name: model.function for name, model in MODELS.items()} == {
        name: int(one.function) for name, one in METHODS.items()
    }


def test_the_listed_gradients_are_those_there_are(numba: Backend) -> None:
    """Metadata lists a gradient of a model where one of its requests has it, and others are refused with the reason."""

    async def body(handle: Handle, _: Server) -> None:
        for name, model in MODELS.items():
            for gradient in GRADIENTS:
                message = ModelInferRequest(model_name=name)
                for tensor_name in model.required:
                    shape = (4,) if tensor_name == "target" and name == "nll" else (4, 6)
                    value = ones(DATATYPES["INT64" if shape == (4,) else "FP32"], *shape)
                    datatype = "INT64" if shape == (4,) else "FP32"
                    message.inputs.add(name=tensor_name, datatype=datatype, shape=shape)
                    message.raw_input_contents.append(value.data)
                message.outputs.add(name=gradient)
                answer = await handle(MODEL_INFER, message.SerializeToString())
                assert isinstance(answer, Status) == (gradient not in model.outputs), (name, gradient)

    with_server(numba, body)
