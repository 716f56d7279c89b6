"""What a small request costs the blocking client, stage by stage, with canned answers in place of the network.

    python benchmarks/client_cost.py [--rounds 30] [--grpc] [--json figures.json]

A cross-entropy of (8, 16) float32 logits: as one call, and as an item of `client.map`. Each stage is a loop of its own;
the rounds take turns and the least count, so that a busy moment of the machine is in none of them. `--grpc` also makes
real calls to a bare echo, and prints the processor time that grpcio's own call takes in this process.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import grpc
import numpy as np

import lossd
import lossd.streaming.reconnecting_stream as stream
from lossd import results
from lossd.fast_path.request_template import RequestTemplate, recall
from lossd.request.build import build
from lossd.request.conversion_cost import are_quick
from lossd.routing.choose_transport import SMALL_BYTES, is_small, taken
from lossd.rpc import protocol
from lossd.rpc.retry import Retry
from lossd.streaming.evaluation import SmallEvaluation
from lossd.streaming.exchange import MOST_TOGETHER, Exchange
from lossd.streaming.map_window import MapWindow
from lossd.v1 import loss_pb2, service_pb2
from lossd.v1 import tensor_pb2 as pb
from machine import describe
from servers import echo, running

NAME = "CrossEntropy"
CALLS = 4000
MESSAGES = 32
ITEMS = MESSAGES * MOST_TOGETHER
GRPC_CALLS = 3000

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((8, 16), np.float32)
Y = RANDOM.integers(0, 16, 8)


def response(compute_ns: int) -> service_pb2.CrossEntropyResponse:
    return service_pb2.CrossEntropyResponse(
        loss=pb.Tensor(dtype=pb.DATA_TYPE_FLOAT32, data=np.float32(2.75).tobytes()),
        summary=loss_pb2.Summary(loss_sum=22.0, weight_sum=8.0, count=8),
        timing=loss_pb2.Timing(queue_ns=1500, compute_ns=compute_ns, batch_requests=1, batch_rows=8),
    )


# No two calls in a row took the same time on the server, unless their items shared a message.
ANSWERS = [response(20_000 + ns).SerializeToString() for ns in range(7)]
ANSWER = ANSWERS[0]
next_answer = cycle(ANSWERS).__next__


class Unsent(lossd.Client):
    """A client whose methods end where a call begins: what their arguments cost."""

    def _evaluate(self, *_: Any) -> Any:
        return None


class CannedPipe:
    """Answers each full message of a stream at once."""

    answers: tuple[bytes, ...] = ()

    def __init__(self, exchange: Exchange, *_: Any) -> None:
        self._exchange = exchange
        self._answers = iter(self.answers)

    @property
    def has_news(self) -> bool:
        return self._exchange.unsent >= MOST_TOGETHER

    def wake(self) -> None:
        """Nothing waits to send."""

    def receive(self, wait_s: float, _: float) -> bytes | None:
        if not wait_s and not self.has_news:
            return None
        if self._exchange.next_message() is None:
            raise AssertionError("nothing to send, and a result is waited for")
        return next(self._answers)

    def close(self) -> None:
        """There is no call."""


def answers(first: int, count: int) -> bytes:
    """The answer to a message of so many evaluations."""
    ended = [
        service_pb2.EvaluationResult(evaluation_id=number, cross_entropy=response(20_000 + first))
        for number in range(first, first + count)
    ]
    return service_pb2.StreamResponse(results=service_pb2.EvaluationResults(results=ended)).SerializeToString()


def canned() -> lossd.Client:
    """A client that no server answers."""
    client = lossd.Client("127.0.0.1:1")
    connection: Any = client._opened().all[0]
    connection._rpcs = {NAME: lambda body, timeout, metadata: next_answer()}
    connection.server = service_pb2.GetServerInfoResponse(limits=service_pb2.Limits(max_message_bytes=16 << 20))
    return client


def small_stages(client: lossd.Client) -> dict[str, Callable[[], object]]:
    """The stages of one call, then all of it."""
    call, unsent, retry = build("cross_entropy", X, Y), Unsent("127.0.0.1:1"), Retry(60.0)
    connections: Any = client._opened()
    connection: Any = connections.all[0]
    body, template = call.body(), repeated()

    def filled() -> bytes:
        found = recall("cross_entropy", (X, Y), {}, SMALL_BYTES)
        return b"".join(found[1]) if found else b""

    return {
        "the method's arguments": lambda: unsent.cross_entropy(X, Y),
        "own options": lambda: taken({}),
        "conversions, checks, general way": lambda: are_quick((X, Y), {}) and build("cross_entropy", X, Y),
        "serialising, general way": lambda: is_small(call, "auto") and call.body(),
        "template: all of that": filled,
        "deadline, retry": lambda: client._retry(None),
        "connection": lambda: connections.leave(connections.take()),
        "metadata, attempt": lambda: connection.attempt(NAME, body, retry.remaining_s()),
        "parsing, result, general way": lambda: results.read_result(call, next_answer(), 0.1),
        "template: parsing, result": lambda: template.read(next_answer(), 0.1),
        "one call": lambda: client.cross_entropy(X, Y),
        "one call, grad=True": lambda: client.cross_entropy(X, Y, grad=True),
    }


def repeated() -> RequestTemplate:
    """The template of the call."""
    found = [recall("cross_entropy", (X, Y), {}, SMALL_BYTES) for _ in range(2)][-1]
    assert found is not None
    return found[0]


def map_stages() -> dict[str, Callable[[], object]]:
    """Those of MOST_TOGETHER items, which share a message; by the general way and by templates."""
    pair, numbers = (X, Y), range(MOST_TOGETHER)
    answer, template = answers(1, MOST_TOGETHER), repeated()
    window = MapWindow("cross_entropy", {}, 1024, "raise")

    def general() -> SmallEvaluation:
        call: Any = window.is_quick(pair) and window.call(pair)
        return SmallEvaluation(call, [b"", call.body()], 0.0)

    generals = [general() for _ in numbers]
    filled = [SmallEvaluation(template, template.fill(pair), 0.0) for _ in numbers]

    def sent(evaluations: list[SmallEvaluation]) -> Exchange:
        exchange = Exchange(0)
        for one in evaluations:
            exchange.add(one)
        exchange.next_message()
        return exchange

    return {
        "map: checks, serialising, general way": lambda: [general() for _ in numbers],
        "map: template: all of that": lambda: [window.repeated(pair, SMALL_BYTES, 0.0) for _ in numbers],
        "map: message": lambda: sent(filled),
        "map: message, results, general way": lambda: sent(generals).receive(answer, 0.1),
        "map: template: message, results": lambda: sent(filled).receive(answer, 0.1),
    }


def least(stages: dict[str, Callable[[], object]], rounds: int, calls: int = CALLS) -> dict[str, float]:
    """Microseconds of each: the least of `rounds` loops, which take turns."""
    found = dict.fromkeys(stages, float("inf"))
    for _ in range(rounds):
        for name, stage in stages.items():
            start = perf_counter()
            for _ in range(calls):
                stage()
            found[name] = min(found[name], (perf_counter() - start) / calls * 1e6)
    return found


def map_item(client: lossd.Client, rounds: int) -> float:
    """Microseconds of an item of `map`."""

    def items() -> Iterator[Any]:
        pair = X, Y
        for _ in range(ITEMS):
            yield pair

    def all_of_them() -> None:
        count = 0
        for _ in client.map("cross_entropy", items()):
            count += 1
        assert count == ITEMS

    CannedPipe.answers = tuple(answers(first, MOST_TOGETHER) for first in range(1, ITEMS + 1, MOST_TOGETHER))
    of_stream: Any = stream
    real, of_stream.Pipe = of_stream.Pipe, CannedPipe
    try:
        return least({"map": all_of_them}, rounds, 1)["map"] / ITEMS
    finally:
        of_stream.Pipe = real


def grpc_call() -> float:
    """Microseconds of this process's processor that a real call takes in grpcio, whose threads are counted too."""
    body = build("cross_entropy", X, Y).body()
    metadata = protocol.metadata(len(body), 1 << 30)
    with (
        running(echo(len(ANSWER))) as address,
        grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel,
    ):
        call: Any = channel.unary_unary(protocol.PATHS[NAME])
        for _ in range(GRPC_CALLS // 10):
            call(body, timeout=60.0, metadata=metadata)
        start = process_time()
        for _ in range(GRPC_CALLS):
            call(body, timeout=60.0, metadata=metadata)
        return (process_time() - start) / GRPC_CALLS * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description="What a small request costs the blocking client, stage by stage.")
    parser.add_argument("--rounds", type=int, default=30, help="loops of each stage, by turns (default 30)")
    parser.add_argument("--grpc", action="store_true", help="time grpcio's own call too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    args = parser.parse_args()
    print(describe("grpcio", "protobuf", "numpy"))
    client = canned()
    figures = least(small_stages(client), args.rounds)
    for name, value in least(map_stages(), args.rounds, CALLS // MOST_TOGETHER).items():
        figures[name] = value / MOST_TOGETHER
    figures["an item of map"] = map_item(client, args.rounds)
    if args.grpc:
        figures["grpcio's own call, processor time"] = grpc_call()
    for name, value in figures.items():
        print(f"{name:<40}{value:>8.2f} µs")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
