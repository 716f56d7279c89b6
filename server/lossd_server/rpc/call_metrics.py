"""Call metrics: counts every call of every method, whatever front brings it in, between that front and the handlers."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from time import monotonic_ns

from lossd_server.call.contract import Handler, Message, Routes, RpcMethod, ServerCall, Status, WholeCall
from lossd_server.metrics.layout import (
    AT_ONCE,
    BADLY,
    BY_METHOD,
    HANDLED,
    METHOD_WORDS,
    RECEIVED,
    SENT,
    STARTED,
    TIMES_NS,
    TIMES_WIDTH,
    WELL,
)  # fmt: skip
from lossd_server.metrics.methods import PLACES, UNKNOWN_PLACE
from lossd_server.metrics.worker_metrics import WorkerMetrics, observe

CANCELLED, DEADLINE_EXCEEDED = 1, 4
SUM = TIMES_WIDTH - 1


class CallMetrics:
    """Of one server. Call `settle` from time to time, and before anybody reads: messages of streams under way."""

    def __init__(self, metrics: WorkerMetrics) -> None:
        self._metrics = metrics
        self._words = metrics.words
        # Streams under way: the first word of their method, and the messages that are counted.
        self._streams: dict[ServerCall, tuple[int, int, int]] = {}

    def counted(self, routes: Routes) -> Routes:
        """The routes, each of which counts."""
        starts = {path: _words_of(path) for path in routes.methods}
        once = {path: start + AT_ONCE for path, start in starts.items()}
        words = self._words

        def answer_at_once(calls: Sequence[WholeCall]) -> Sequence[bytes | None]:
            start_ns = monotonic_ns()
            answers = routes.at_once(calls)
            took_ns = monotonic_ns() - start_ns
            bucket = bisect_left(TIMES_NS, took_ns)
            if len(calls) == 1:
                if answers[0] is not None:
                    at = once[calls[0].method]
                    words[at + bucket] += 1
                    words[at + SUM] += took_ns
                return answers
            # Most have one method, and then it is counted once for all of them.
            answered = [call.method for call, answer in zip(calls, answers, strict=False) if answer is not None]
            while answered:
                path, total = answered[0], len(answered)
                count = answered.count(path)
                at = once[path]
                words[at + bucket] += count
                words[at + SUM] += took_ns * count
                answered = [other for other in answered if other != path] if count < total else []
            return answers

        return Routes(
            {path: self._counted(method, starts[path]) for path, method in routes.methods.items()},
            self._counted(routes.unknown, _words_of("")),
            answer_at_once,
            self.refused_by_front,
            routes.load,
        )

    def settle(self) -> None:
        """Counts what streams have received and sent since."""
        for call in self._streams:
            self._settle(call)

    def refused_by_front(self, call: ServerCall, status: Status) -> None:
        """A call that ends before it has a handler."""
        at = _words_of(call.method)
        self._words[at + STARTED] += 1
        self._ended(at, status, 0)

    def _counted(self, method: RpcMethod, at: int) -> RpcMethod:
        return replace(method, handler=(self._stream if method.streams else self._unary)(method.handler, at))

    def _unary(self, handler: Handler, at: int) -> Handler:
        words, started, well, total = self._words, at + STARTED, at + WELL, at + WELL + SUM
        clock, bucket_of, bounds = monotonic_ns, bisect_left, TIMES_NS  # each is looked up for every call

        async def handle(call: ServerCall) -> Message | Status:
            words[started] += 1
            start_ns = clock()
            try:
                answer = await handler(call)
            except BaseException:
                self._ended_badly(at, call, None, start_ns)
                raise
            if type(answer) is Status:
                self._ended_badly(at, call, answer, start_ns)
                return answer
            took_ns = clock() - start_ns
            words[well + bucket_of(bounds, took_ns)] += 1
            words[total] += took_ns
            return answer

        return handle

    def _ended_badly(self, at: int, call: ServerCall, answer: Status | None, start_ns: int) -> None:
        """A unary call that has no message for an answer."""
        status = _status(answer, call)
        if status.code:  # else one message is counted with its end
            self._words[at + RECEIVED] += call.messages_in
        self._ended(at, status, monotonic_ns() - start_ns)

    def _stream(self, handler: Handler, at: int) -> Handler:
        words = self._words

        async def handle(call: ServerCall) -> Message | Status:
            words[at + STARTED] += 1
            start_ns = monotonic_ns()
            answer: Message | Status | None = None
            self._streams[call] = at, 0, 0
            try:
                answer = await handler(call)
            finally:
                self._settle(call)
                del self._streams[call]
                status = _status(answer, call)
                words[at + SENT] += not status.code and not isinstance(answer, Status)
                self._ended(at, status, monotonic_ns() - start_ns)
            return answer

        return handle

    def _settle(self, call: ServerCall) -> None:
        at, received, sent = self._streams[call]
        words, now_received, now_sent = self._words, call.messages_in, call.messages_out
        words[at + RECEIVED] += now_received - received
        words[at + SENT] += now_sent - sent
        self._streams[call] = at, now_received, now_sent

    def _ended(self, at: int, status: Status, took_ns: int) -> None:
        if not status.code:
            observe(self._words, at + WELL, TIMES_NS, took_ns)
            return
        self._words[at + HANDLED + status.code] += 1
        observe(self._words, at + BADLY, TIMES_NS, took_ns)
        if status.code == CANCELLED:
            self._metrics.cancelled()
        else:
            self._metrics.refused(status.reason, status.shed)


def _words_of(path: str) -> int:
    return BY_METHOD + PLACES.get(path, UNKNOWN_PLACE) * METHOD_WORDS


def _status(answer: Message | Status | None, call: ServerCall) -> Status:
    """How a call ends; None: its handler was cancelled, for its client left or its time was over."""
    if answer is None:
        if call.deadline <= time.monotonic():
            return Status(DEADLINE_EXCEEDED, reason="DEADLINE_EXCEEDED")
        return Status(0 if call.settled else CANCELLED)
    return answer if isinstance(answer, Status) else Status(0)
