"""ModelInfer of the Open Inference Protocol beside lossd's own CrossEntropy: the same server, tensors and client.

    python benchmarks/inference.py [--rounds 5] [--calls 4000]

Small: (8, 16) float32, raw HTTP/2 on one connection, bursts of 1 and 32 calls, on both fronts. Large: 16 MB of logits
by a Python client from bytes to bytes, with and without the gradient. The two take turns; medians count, and the last
answer of every round is compared with float64. Processor time is the server's. `copies.py` counts copies.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import grpc
import numpy as np

from fronts import PATH, RawClient, server_seconds
from lossd.bench.float64 import closed_form
from lossd.request import build as requests
from lossd.v1.service_pb2 import CrossEntropyResponse
from lossd_server.inference.protocol import ModelInferRequest, ModelInferResponse
from machine import describe
from processes import Server, serving
from servers import LOSSD

MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
BURSTS = (1, 32)
OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
LARGE_CALLS = 12
TOLERANCE = 1e-6

Array = np.ndarray[Any, np.dtype[Any]]


def case(rows: int, classes: int) -> tuple[Array, Array]:
    random = np.random.default_rng(0)
    return random.normal(0, 3, (rows, classes)).astype(np.float32), random.integers(0, classes, rows)


def infer_request(logits: Array, labels: Array, grad: bool = False, request_id: str = "") -> bytes:
    """As Triton's client writes it."""
    message = ModelInferRequest(model_name="cross_entropy", id=request_id)
    for name, datatype, values in (("input", "FP32", logits), ("target", "INT64", labels)):
        message.inputs.add(name=name, datatype=datatype, shape=values.shape)
        message.raw_input_contents.append(values.tobytes())
    if grad:
        message.outputs.add(name="loss")
        message.outputs.add(name="input_gradient")
    body: bytes = message.SerializeToString()
    return body


def own_loss(answer: bytes) -> float:
    return float(np.frombuffer(CrossEntropyResponse.FromString(answer).loss.data, "<f4")[0])


def inferred_loss(answer: bytes) -> float:
    return float(np.frombuffer(ModelInferResponse.FromString(answer).raw_output_contents[0], "<f4")[0])


WAYS: dict[str, tuple[str, Callable[[bytes], float]]] = {
    "CrossEntropy": (PATH, own_loss),
    "ModelInfer": (MODEL_INFER, inferred_loss),
}
# A small request with an id is read anew each time.
WITH_ID = "with an id"
SMALL_WAYS = {**WAYS, WITH_ID: WAYS["ModelInfer"]}


def bodies(logits: Array, labels: Array, grad: bool = False) -> dict[str, bytes]:
    own = requests.build("cross_entropy", logits, labels, grad=grad).request.SerializeToString()
    return {"CrossEntropy": own, "ModelInfer": infer_request(logits, labels, grad)}


def require(loss: float, expected: float) -> None:
    assert abs(loss / expected - 1) <= TOLERANCE, f"the loss is {loss}, not {expected}"


def small(server: Server, front: str, rounds: int, calls: int) -> None:
    logits, labels = case(8, 16)
    expected = float(closed_form("cross_entropy", logits, labels, "mean")[0])
    sent = {**bodies(logits, labels), WITH_ID: infer_request(logits, labels, request_id="7")}
    clients = {name: RawClient(server.address, sent[name], path) for name, (path, _) in SMALL_WAYS.items()}
    for burst in BURSTS:
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in SMALL_WAYS}
        for index in range(rounds + 1):
            for name, (_, loss_of) in SMALL_WAYS.items():
                used, start = server_seconds(server), perf_counter()
                answers: list[bytes] = []
                for _ in range(calls // burst):
                    answers = clients[name].burst(burst)
                seconds, used = perf_counter() - start, server_seconds(server) - used
                require(loss_of(answers[-1]), expected)
                if index:  # the first warms up
                    count = calls // burst * burst
                    found[name].append((count / seconds, used / count * 1e6))
        for name, taken in found.items():
            each_s, each_us = (median(column) for column in zip(*taken, strict=True))
            print(f"{front:6} (8, 16), {burst:2} at once  {name:12} {each_s:9,.0f} calls/s {each_us:7.1f} µs each")


def large(server: Server, front: str, rounds: int) -> None:
    logits, labels = case(1000, 4000)
    expected = float(closed_form("cross_entropy", logits, labels, "mean")[0])
    with grpc.insecure_channel(server.address, options=OPTIONS) as channel:
        for grad in (False, True):
            sent = bodies(logits, labels, grad)
            found: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
            for index in range(rounds + 1):
                for name, (path, loss_of) in WAYS.items():
                    call: Any = channel.unary_unary(path)
                    used, start = server_seconds(server), perf_counter()
                    for _ in range(LARGE_CALLS):
                        answer = call(sent[name])
                    seconds, used = perf_counter() - start, server_seconds(server) - used
                    require(loss_of(answer), expected)
                    if index:
                        found[name].append((seconds / LARGE_CALLS * 1e3, used / LARGE_CALLS * 1e3))
            what = "gradient" if grad else "loss"
            for name, taken in found.items():
                wall, cpu = (median(column) for column in zip(*taken, strict=True))
                print(f"{front:6} 16 MB, {what:8}       {name:12} {wall:9.1f} ms a call {cpu:7.1f} ms of the server")


def main() -> None:
    parser = argparse.ArgumentParser(description="ModelInfer beside lossd's own CrossEntropy.")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each, by turns")
    parser.add_argument("--calls", type=int, default=4000, help="small calls of a round")
    asked = parser.parse_args()
    print(describe("grpcio", "protobuf", "uvloop", "numpy"))
    for front in ("http2", "grpcio"):
        with serving([*LOSSD, "--front", front]) as server:
            small(server, front, asked.rounds, asked.calls)
            large(server, front, asked.rounds)


if __name__ == "__main__":
    main()
