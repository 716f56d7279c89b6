"""Requests whose tensors and gradients lie in shared memory, against a whole server: right ones, and attacks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from lossd.bench.float64 import closed_form
from lossd.errors import Overloaded, TooLarge
from lossd.shared_memory.arena import Arena
from lossd.v1 import loss_pb2 as loss
from lossd.v1 import service_pb2 as service
from lossd.v1 import tensor_pb2 as pb
from lossd.v1.service_pb2_grpc import LossServiceStub
from lossd_server.backends import Backend
from lossd_server.config.settings import Settings
from lossd_server.embedded import EmbeddedServer
from tests.losses.messages import tensor
from tests.server.edge import EdgeBackend
from tests.server.shared_memory.hosting import Host, code, hosted
from tests.server.shared_memory.memfds import connected

ALL = (loss.GRADIENT_INPUT, loss.GRADIENT_TARGET, loss.GRADIENT_WEIGHT)
LOGITS = np.random.default_rng(3).normal(size=(7, 50)).astype(np.float32)
TARGET = np.array([0, 49, 3, -100, 7, 7, 11])
MIX = np.random.default_rng(4).dirichlet(np.ones(50), 7).astype(np.float32)


@pytest.fixture
def host(numba: Backend) -> Iterator[Host]:
    with hosted(numba) as found:
        yield found


def test_the_same_bits(backend: Backend) -> None:
    """A request in shared memory has the bits of the same request in a message; its gradients lie where it said."""
    with hosted(backend) as host:
        weight = np.linspace(0.5, 1.5, 50, dtype=np.float32)
        options: Any = {"gradients": [1, 2, 3], "label_smoothing": 0.1}
        sent = host.stub.CrossEntropy(
            service.CrossEntropyRequest(input=tensor(LOGITS), target=tensor(MIX), weight=tensor(weight), **options)
        )
        places = [host.regions.empty(shape, "float32") for shape in ((7, 50), (7, 50), (50,))]
        held = [host.share(values) for values in (LOGITS, MIX, weight)]
        shared = host.stub.CrossEntropy(
            service.CrossEntropyRequest(
                input=held[0][1],
                target=held[1][1],
                weight=held[2][1],
                placements=[host.placement(place, number + 1) for number, place in enumerate(places)],
                **options,
            )
        )

        assert shared.loss == sent.loss
        assert shared.summary == sent.summary
        for place, name in zip(places, ("input_gradient", "target_gradient", "weight_gradient"), strict=True):
            whole, where = getattr(sent, name), getattr(shared, name)
            assert place.tobytes() == whole.data
            assert (where.dtype, list(where.shape)) == (whole.dtype, list(whole.shape))
            assert where.shared_memory == host.place(place)
            assert not where.data


@pytest.mark.parametrize(
    "rpc, request_of", [("NLL", service.NLLRequest), ("CrossEntropy", service.CrossEntropyRequest)]
)
def test_indices(host: Host, rpc: str, request_of: Any) -> None:
    """Class indices in shared memory are taken; the gradient overwrites whatever lay in its place."""
    _, logits = host.share(LOGITS)
    _, target = host.share(TARGET, "int64")
    place = host.regions.empty(LOGITS.shape, "float32")
    place[:] = 77.0
    call = getattr(host.stub, rpc)
    sent = call(request_of(input=tensor(LOGITS), target=tensor(TARGET, "int64"), gradients=[loss.GRADIENT_INPUT]))
    shared = call(
        request_of(input=logits, target=target, gradients=[loss.GRADIENT_INPUT], placements=[host.placement(place)])
    )

    assert shared.loss == sent.loss
    assert place.tobytes() == sent.input_gradient.data


def test_larger_than_a_message(numba: Backend) -> None:
    """Tensors and gradients in shared memory may be larger than any message; a huge job's parts fill one place."""
    with hosted(numba, max_message_bytes=1 << 16, max_batch_bytes=1 << 18) as host:
        values = np.random.default_rng(0).normal(size=(700, 300)).astype(np.float32)
        target = np.arange(700) % 300
        _, logits = host.share(values)
        place = host.regions.empty((values.size + 1,), "float32")[1:].reshape(values.shape)  # on no cache line
        request = service.CrossEntropyRequest(
            input=logits,
            target=tensor(target, "int64"),
            gradients=[loss.GRADIENT_INPUT],
            placements=[host.placement(place)],
        )
        answer = host.stub.CrossEntropy(request)
        expected, gradient = closed_form("cross_entropy", values, target, "mean")

        assert np.frombuffer(answer.loss.data, "<f4")[0] == pytest.approx(float(expected), rel=1e-6)
        np.testing.assert_allclose(place, gradient, atol=1e-9)


@pytest.mark.parametrize("rows", [7, 700])
def test_a_failed_evaluation_leaves_nothing(numba: Backend, rows: int) -> None:
    """Where the evaluation fails in its pass, the gradient's place is NaN and holds nothing of the result."""
    with hosted(numba, max_batch_bytes=1 << 18) as host:
        p = np.full((rows, 300), 0.5, np.float32)
        p[-1, -1] = 2.0
        _, there = host.share(p)
        place = host.regions.empty(p.shape, "float32")
        place[:] = 7.0
        request = service.BCERequest(
            input=there,
            target=there,
            reduction=loss.REDUCTION_SUM,
            gradients=[loss.GRADIENT_INPUT],
            placements=[host.placement(place)],
        )

        assert code(host.stub.BCE, request) is grpc.StatusCode.INVALID_ARGUMENT
        assert np.isnan(place).all()


def test_tokens(host: Host) -> None:
    """Guessed tokens are NOT_FOUND, and so are those of a connection that has ended; the next request is answered."""
    x, there = host.share(LOGITS)
    target = tensor(TARGET, "int64")
    guessed = pb.Tensor(dtype=there.dtype, shape=there.shape, shared_memory=there.shared_memory)
    guessed.shared_memory.token = os.urandom(16)
    with connected(host.info.shared_memory_socket) as peer:
        ended = pb.Tensor(dtype=pb.DATA_TYPE_FLOAT32, shape=[1, 2])
        ended.shared_memory.token = peer.give()
        ended.shared_memory.length = 8
        small = service.CrossEntropyRequest(input=ended, target=tensor([0], "int64"))
        assert code(host.stub.CrossEntropy, small) is grpc.StatusCode.OK

    host.until(lambda: code(host.stub.CrossEntropy, small) is grpc.StatusCode.NOT_FOUND, "the token ends")
    with pytest.raises(grpc.RpcError) as caught:
        host.stub.CrossEntropy(service.CrossEntropyRequest(input=guessed, target=target))
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert code(host.stub.CrossEntropy, service.CrossEntropyRequest(input=there, target=target)) is grpc.StatusCode.OK
    host.regions.close()
    known = service.CrossEntropyRequest(input=there, target=target)
    host.until(lambda: code(host.stub.CrossEntropy, known) is grpc.StatusCode.NOT_FOUND, "the regions end")
    assert x[0, 0] == LOGITS[0, 0]


def test_a_token_of_another_server(numba: Backend) -> None:
    """One server's token means nothing to another."""
    with hosted(numba) as one, hosted(numba) as other:
        request = service.CrossEntropyRequest(input=one.share(LOGITS)[1], target=tensor(TARGET, "int64"))

        assert code(other.stub.CrossEntropy, request) is grpc.StatusCode.NOT_FOUND
        assert code(one.stub.CrossEntropy, request) is grpc.StatusCode.OK
        assert Arena.connect(one.info.shared_memory_socket, other.info.instance_id) is None


@pytest.mark.parametrize("offset", [2**64 - 1400, 2**64 - 4, 2**63, 4096 * 4096])
def test_overflow(host: Host, offset: int) -> None:
    """An offset whose end overflows is INVALID_ARGUMENT."""
    _, there = host.share(LOGITS)
    there.shared_memory.offset = offset
    request = service.CrossEntropyRequest(input=there, target=tensor(TARGET, "int64"))

    assert code(host.stub.CrossEntropy, request) is grpc.StatusCode.INVALID_ARGUMENT


def test_off(numba: Backend) -> None:
    """A server without shared memory names no socket and knows no token."""
    settings = Settings(shared_memory_socket="off")
    with EmbeddedServer(settings, numba) as server, grpc.insecure_channel(server.address) as channel:
        stub: Any = LossServiceStub(channel)
        info = stub.GetServerInfo(service.GetServerInfoRequest())
        place = pb.SharedMemory(token=bytes(16), length=16)
        there = pb.Tensor(dtype=pb.DATA_TYPE_FLOAT32, shape=[2, 2], shared_memory=place)
        request = service.CrossEntropyRequest(input=there, target=tensor([0, 1], "int64"))

        assert info.shared_memory_socket == ""
        assert info.limits.max_shared_memory_bytes == 0
        assert code(stub.CrossEntropy, request) is grpc.StatusCode.NOT_FOUND


def test_the_limit_is_told(numba: Backend) -> None:
    """GetServerInfo tells the bytes that are enforced."""
    with hosted(numba, max_shared_memory_bytes=16 << 20) as host:
        kept = host.regions.empty((12 << 20,), "uint8")

        assert host.info.limits.max_shared_memory_bytes == 16 << 20
        with pytest.raises(TooLarge, match="takes 16777216"):
            host.regions.lend(17 << 20)
        with pytest.raises(Overloaded, match="does not fit"):
            host.regions.lend(8 << 20)
        assert host.regions.find(kept) is not None


def test_copies_are_charged() -> None:
    """What is copied out of shared memory counts as bytes in flight until the answer is sent."""
    backend = EdgeBackend()
    with hosted(backend) as host:
        _, target = host.share(np.zeros(1000), "int64")
        request = service.CrossEntropyRequest(input=tensor(np.zeros((1000, 8))), target=target)
        backend.gate.clear()
        answer = host.stub.CrossEntropy.future(request)
        backend.until_entered()
        held = host.inflight()
        backend.gate.set()
        answer.result()

        assert held == (request.ByteSize() + 8000, 1)
        host.given_back()
