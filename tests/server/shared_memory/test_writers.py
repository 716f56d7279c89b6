"""Clients that write to their shared memory while it is read, and clients that die."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from lossd.v1 import loss_pb2 as loss
from lossd.v1 import service_pb2 as service
from lossd.v1 import tensor_pb2 as pb
from lossd_server.backends import Backend
from lossd_server.embedded import EmbeddedServer
from tests.losses.messages import tensor
from tests.server.edge import EdgeBackend
from tests.server.shared_memory.hosting import Host, code, hosted
from tests.server.shared_memory.memfds import descriptors, mappings

ALL = (loss.GRADIENT_INPUT, loss.GRADIENT_TARGET, loss.GRADIENT_WEIGHT)
LOGITS = np.random.default_rng(3).normal(size=(7, 50)).astype(np.float32)
TARGET = np.array([0, 49, 3, -100, 7, 7, 11])
MIX = np.random.default_rng(4).dirichlet(np.ones(50), 7).astype(np.float32)


@pytest.fixture
def host(numba: Backend) -> Iterator[Host]:
    with hosted(numba) as found:
        yield found


def test_a_writer_while_we_read(host: Host) -> None:
    """Whatever a client writes while its requests run, each is answered or refused, and the server lives."""
    rng = np.random.default_rng(5)
    rows, classes = 300, 700
    x, logits = host.share(rng.normal(size=(rows, classes)))
    p, probabilities = host.share(rng.uniform(size=(rows, classes)))
    y, target = host.share(rng.integers(0, classes, rows), "int64")
    place = host.regions.empty(x.shape, "float32")
    other = host.regions.empty(x.shape, "float32")
    both = [host.placement(place), host.placement(other, loss.GRADIENT_TARGET)]
    graded: Any = {"gradients": [loss.GRADIENT_INPUT], "placements": [host.placement(place)]}
    all_outputs = [loss.OUTPUT_LSE, loss.OUTPUT_ENTROPY, loss.OUTPUT_ARGMAX, loss.OUTPUT_CORRECT]
    requests: list[tuple[Any, Any]] = [
        (
            host.stub.CrossEntropy,
            service.CrossEntropyRequest(input=logits, target=target, outputs=all_outputs, **graded),
        ),
        (
            host.stub.CrossEntropy,
            service.CrossEntropyRequest(input=logits, target=probabilities, gradients=ALL, placements=both),
        ),
        (host.stub.NLL, service.NLLRequest(input=logits, target=target, **graded)),
        (host.stub.BCE, service.BCERequest(input=probabilities, target=probabilities, **graded)),
        (host.stub.KLDivergence, service.KLDivergenceRequest(input=logits, target=probabilities, **graded)),
        (host.stub.Entropy, service.EntropyRequest(input=probabilities, kind=loss.KIND_COUNTS, **graded)),
        (host.stub.Activation, service.ActivationRequest(input=logits, gradients=[loss.GRADIENT_INPUT])),
    ]
    done = threading.Event()

    def write() -> None:
        junk = np.random.default_rng(6).integers(0, 256, x.nbytes, np.uint8)
        spoils: tuple[Any, ...] = (junk.view(np.float32), np.inf, np.nan, -np.inf, 2.0, 0.25)
        turn = 0
        while not done.is_set():
            spoil = spoils[turn % len(spoils)]
            x.reshape(-1)[:] = spoil
            p.reshape(-1)[:] = 0.5
            p.reshape(-1)[turn % p.size] = 2.0
            y[:] = (2**62, -(2**62), 0, classes, -1)[turn % 5]
            p[:] = 0.5
            y[:] = turn % classes
            turn += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        codes = [code(call, request) for _ in range(12) for call, request in requests]
    finally:
        done.set()
        writer.join()

    assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}
    x[:], p[:], y[:] = 0.0, 0.5, 0
    assert [code(call, request) for call, request in requests] == [grpc.StatusCode.OK] * len(requests)


def test_a_value_that_comes_and_goes(host: Host) -> None:
    """Where a value is now wrong and now right, a call that is answered leaves no gradient unwritten."""
    p, probabilities = host.share(np.full(1 << 20, 0.5))
    place = host.regions.empty(p.shape, "float32")
    request = service.BCERequest(
        input=probabilities,
        target=probabilities,
        gradients=[loss.GRADIENT_INPUT],
        placements=[host.placement(place)],
    )
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            p[900_000] = 2.0
            p[900_000] = 0.5

    writer = threading.Thread(target=write)
    writer.start()
    answered = left = 0
    try:
        for _ in range(200):
            place[:] = 77.0
            if code(host.stub.BCE, request) is grpc.StatusCode.OK:
                answered += 1
                left += int((place == 77.0).sum())
    finally:
        done.set()
        writer.join()

    assert answered
    assert left == 0


VICTIM = """
import sys
import grpc
import numpy as np
from lossd.shared_memory.arena import Arena
from lossd.v1 import service_pb2 as service, tensor_pb2 as pb
from lossd.v1.service_pb2_grpc import LossServiceStub

stub = LossServiceStub(grpc.insecure_channel(sys.argv[1]))
info = stub.GetServerInfo(service.GetServerInfoRequest())
regions = Arena.connect(info.shared_memory_socket, info.instance_id)
x = regions.empty((4, 8), np.float32)
x[:] = 0.0
token, offset = regions.find(x)
place = pb.SharedMemory(token=token, offset=offset, length=x.nbytes)
there = pb.Tensor(dtype=pb.DATA_TYPE_FLOAT32, shape=x.shape, shared_memory=place)
target = pb.Tensor(dtype=pb.DATA_TYPE_INT64, shape=[4], data=bytes(32))
print(token.hex(), flush=True)
stub.CrossEntropy(service.CrossEntropyRequest(input=there, target=target))
"""


def test_a_killed_client() -> None:
    """A client that is killed in its request costs nobody anything: its regions go when its job has ended."""
    gc.collect()
    before = mappings()
    backend = EdgeBackend()
    with EmbeddedServer(backend=backend) as server, grpc.insecure_channel(server.address) as channel:
        host = Host(server, channel)
        files = descriptors()
        backend.gate.clear()
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        victim = subprocess.Popen(
            [sys.executable, "-c", VICTIM, server.address], stdout=subprocess.PIPE, env=environment, text=True
        )
        assert victim.stdout is not None
        token = bytes.fromhex(victim.stdout.readline())
        backend.until_entered()
        victim.kill()
        victim.wait()
        victim.stdout.close()
        place = pb.SharedMemory(token=token, length=8)
        there = pb.Tensor(dtype=pb.DATA_TYPE_FLOAT32, shape=[1, 2], shared_memory=place)
        again = service.EntropyRequest(input=there)
        malformed = service.EntropyRequest(input=there, kind=77)  # type: ignore[arg-type]  # told before it is computed
        host.until(lambda: code(host.stub.Entropy, malformed) is grpc.StatusCode.NOT_FOUND, "the token ends")
        held = mappings()
        backend.gate.set()
        backend.runs.clear()
        host.until(
            lambda: mappings() == before and descriptors() <= files and host.inflight() == (0, 0),
            "the region goes with its job",
        )

        assert held == before + 1
        assert code(host.stub.Entropy, again) is grpc.StatusCode.NOT_FOUND
        _, logits = host.share(LOGITS)
        request = service.CrossEntropyRequest(input=logits, target=tensor(TARGET, "int64"))
        assert code(host.stub.CrossEntropy, request) is grpc.StatusCode.OK
        host.regions.close()
