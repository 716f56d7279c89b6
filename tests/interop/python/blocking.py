"""Interop client: grpcio's blocking stub. `python -m tests.interop.python.blocking ADDRESS CASE`."""

from __future__ import annotations

import queue
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import grpc

from lossd.v1.service_pb2 import StreamRequest, StreamResponse
from lossd.v1.service_pb2_grpc import LossServiceStub
from tests.interop.python import messages
from tests.interop.python.messages import HALVES, WHOLE, cross_entropy, pause, streamed, told, told_of_stream

Case = Callable[[LossServiceStub], dict[str, Any]]


class Halves:
    """A streamed evaluation that stands still after its first block was answered."""

    def __init__(self, stub: LossServiceStub, timeout_s: float | None = None) -> None:
        self._requests: queue.Queue[StreamRequest | None] = queue.Queue()
        self._messages = streamed(*HALVES)
        for message in self._messages[:2]:
            self._requests.put(message)
        self.call: Any = stub.Stream(iter(self._requests.get, None), timeout=timeout_s)
        self._answers: list[StreamResponse] = list(islice(self.call, 1))

    def finish(self) -> dict[str, Any]:
        for message in [*self._messages[2:], None]:
            self._requests.put(message)
        # A server that drains may end the call once its evaluation has ended.
        code = ended_with(lambda: self._answers.extend(self.call))
        return told_of_stream(self._answers, code)


def ended_with(wait: Callable[[], Any]) -> int:
    """The status code that `wait` ends with."""
    try:
        wait()
    except grpc.RpcError as error:
        return number(error)
    return 0


def number(error: Any) -> int:
    code: int = error.code().value[0]
    return code


def unary(stub: LossServiceStub) -> dict[str, Any]:
    return told(stub.CrossEntropy(cross_entropy(4, 5)))


def stream(stub: LossServiceStub) -> dict[str, Any]:
    call: Any = stub.Stream(iter(streamed(*WHOLE)))
    answers = list(call)
    return told_of_stream(answers, call.code().value[0])


def error(stub: LossServiceStub) -> dict[str, Any]:
    try:
        stub.CrossEntropy(messages.wrong())
    except grpc.RpcError as refused:
        found: Any = refused
        trailers = dict(found.trailing_metadata())
        return messages.told_of_error(number(found), trailers["grpc-status-details-bin"])
    raise AssertionError("a wrong request was answered")


def deadline(stub: LossServiceStub) -> dict[str, Any]:
    return {"code": ended_with(lambda: list(Halves(stub, messages.DEADLINE_S).call))}


def cancel(stub: LossServiceStub) -> dict[str, Any]:
    halves = Halves(stub)
    halves.call.cancel()
    return {"code": ended_with(lambda: list(halves.call)), **unary(stub)}


def large(stub: LossServiceStub) -> dict[str, Any]:
    return told(stub.CrossEntropy(cross_entropy(4096, 1024)))


def many(stub: LossServiceStub) -> dict[str, Any]:
    request = cross_entropy(8, 16)
    calls: Iterator[Any] = iter([stub.CrossEntropy.future(request) for _ in range(1000)])
    answers = [told(call.result()) for call in calls]
    return {**answers[0], "calls": len(answers), "same": all(one == answers[0] for one in answers)}


def refusals(stub: LossServiceStub) -> dict[str, Any]:
    request = cross_entropy(200, 128)
    codes = {ended_with(lambda: stub.CrossEntropy(request)) for _ in range(messages.REFUSALS)}
    (code,) = codes
    return {"code": code, **unary(stub)}


def keepalive(stub: LossServiceStub) -> dict[str, Any]:
    halves = Halves(stub)
    pause()
    return halves.finish()


def drain(stub: LossServiceStub) -> dict[str, Any]:
    halves = Halves(stub)
    pause()
    finished = halves.finish()
    refused = ended_with(lambda: unary(stub))
    pause()
    again = told(stub.CrossEntropy(cross_entropy(4, 5), wait_for_ready=True))
    return {**finished, "refused": refused, "again": again["loss"]}


CASES: dict[str, Case] = {one.__name__: one for one in (unary, stream, error, deadline, cancel, large, many)}
CASES |= {one.__name__: one for one in (refusals, keepalive, drain)}


def main(address: str, case: str) -> None:
    options = messages.OPTIONS + (messages.KEEPALIVE if case == "keepalive" else [])
    with grpc.insecure_channel(address, options=options) as channel:
        messages.say(CASES[case](LossServiceStub(channel)))


if __name__ == "__main__":
    main(*sys.argv[1:])
