"""Exchange on one stream: which message is sent next, and what an answer says. Pure: no channel, no waiting.

`add` and `receive` belong to one thread, `next_message` may belong to another: they share deques and dicts by single
operations only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError

from lossd import results, wire
from lossd.errors import Error, InternalError, from_status
from lossd.options import Progress
from lossd.results import Result
from lossd.streaming.block_messages import Assembly, Sending, complete_open, together
from lossd.v1 import service_pb2

if TYPE_CHECKING:
    from lossd.routing.route import Route
    from lossd.rpc.retry import Retry

# Evaluations that share a message, and their bytes: a message costs 0.1 ms whatever is in it.
MOST_TOGETHER = 128
MOST_TOGETHER_BYTES = 1 << 19
# Answers that wait to be looked at: more would hold more memory, fewer would stop the wire between two looks.
MOST_RECEIVED = 4
# Of an entry beside its elements: shapes, tags, options.
ENTRY_BYTES = 512
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class Evaluation:
    """A call on a stream. outcome: its end, None before. refusals: how often it was refused and is sent again.

    retry: the time in which the server must come to know its shared memory, once it did not.
    """

    __slots__ = (
        "_body",
        "call",
        "cut",
        "nbytes",
        "outcome",
        "progress",
        "refusals",
        "retry",
        "route",
        "spent",
        "start_s",
    )

    def __init__(self, route: Route, start_s: float, progress: Progress | None = None) -> None:
        self.start_s = start_s
        self.progress = progress
        self.refusals = 0
        self.retry: Retry | None = None
        self.spent = False  # gradients have overwritten a part of its tensor: it cannot be sent again
        self.take(route)

    def take(self, route: Route) -> None:
        """Goes, or goes again, by that route."""
        self.route = route
        self.call = route.call
        self.cut = route.cut
        self.nbytes = route.call.nbytes
        self.outcome: Result | Error | None = None
        self._body: bytes | None = None

    def read_now(self) -> None:
        """Takes what it sends, where it goes whole: the caller may change its arrays from now on."""
        if self.cut is None:
            self._body = self.call.body()

    @property
    def reads_file(self) -> bool:
        """Whether its blocks are read from a file that is mapped into memory."""
        return self.cut is not None and self.call.is_mapped

    def body(self) -> bytes:
        """Its serialised request, where it goes whole."""
        return self.call.body() if self._body is None else self._body

    def result(self) -> Result:
        """Raises the Error that it ended with."""
        assert self.outcome is not None
        if isinstance(self.outcome, Error):
            raise self.outcome
        return self.outcome

    def ended(self) -> None:
        """Its memory, where it is shared, is given back, or up where its end was not heard."""
        if not isinstance(self.outcome, Result):
            self.route.ended(self.outcome or InternalError("the evaluation was given up"))
        else:
            self.route.ended(None)


class _Open:
    """An evaluation that was sent, or is being sent."""

    __slots__ = ("assembly", "evaluation", "sending")

    def __init__(self, evaluation: Evaluation) -> None:
        self.evaluation = evaluation
        self.sending: Sending | None = None
        self.assembly: Assembly | None = None


class Exchange:
    """What is said on one stream. sent: messages so far. max_message_bytes: the server's; 0: it names none."""

    def __init__(self, max_message_bytes: int, evaluations: Iterable[Evaluation] = ()) -> None:
        self._under: _Open | None = None  # whose blocks are being sent
        self._reported = 0
        self._together_bytes = min(MOST_TOGETHER_BYTES, max_message_bytes or MOST_TOGETHER_BYTES)
        self._outbox = deque(evaluations)
        self._open: dict[int, _Open] = {}
        self._next_id = 1
        self._blocks: Iterator[bytes] | None = None
        self._blocks_id = 0
        self.sent = 0

    def add(self, evaluation: Evaluation) -> None:
        """To be sent after those before it."""
        self._outbox.append(evaluation)

    @property
    def has_unsent(self) -> bool:
        return self._blocks is not None or bool(self._outbox)

    @property
    def unsent(self) -> int:
        """Evaluations of which nothing was sent."""
        return len(self._outbox)

    @property
    def unanswered(self) -> int:
        """Evaluations that have not ended."""
        return len(self._outbox) + len(self._open)

    def next_message(self) -> bytes | None:
        """What the pipe shall take now; None where there is nothing to send. Reads the arrays it sends."""
        message = self._next_block()
        if message is None and self._outbox:
            message = self._opens() if self._outbox[0].cut is None else self._first()
        if message is not None:
            self.sent += 1
        return message

    @property
    def reads_file(self) -> bool:
        """Whether the next message reads a file that is mapped into memory, which may wait for a disk."""
        if self._blocks is not None:
            return self._under is not None and self._under.evaluation.reads_file
        return bool(self._outbox) and self._outbox[0].reads_file

    def report_progress(self) -> None:
        """Tells whoever wants to know how many items have been taken by the pipe."""
        under = self._under
        if under is None or under.sending is None or under.evaluation.progress is None:
            return
        if self._reported != under.sending.items:
            self._reported = under.sending.items
            under.evaluation.progress(self._reported, under.sending.cut.items)

    def _next_block(self) -> bytes | None:
        if self._blocks is None:
            return None
        # An evaluation that failed is sent no further.
        message = next(self._blocks, None) if self._blocks_id in self._open else None
        if message is None:
            self._blocks = self._under = None
        return message

    def _opens(self) -> bytes:
        """Whole evaluations that are there by now."""
        outbox, entries, size = self._outbox, list[bytes](), 0
        while outbox and outbox[0].cut is None and len(entries) < MOST_TOGETHER:
            size += outbox[0].nbytes + ENTRY_BYTES
            if entries and size > self._together_bytes:
                break
            evaluation = outbox.popleft()
            entries.append(complete_open(evaluation.call.rpc, evaluation.body(), self._begin(evaluation)))
        return together(entries)

    def _first(self) -> bytes | None:
        evaluation = self._outbox.popleft()
        assert evaluation.cut is not None
        self._blocks_id = self._begin(evaluation)
        under = self._open[self._blocks_id]
        under.assembly = Assembly(evaluation.call, evaluation.cut)
        under.sending = Sending(evaluation.call, evaluation.cut, self._blocks_id, evaluation.route.denominator)
        self._blocks = iter(under.sending)
        self._under, self._reported = under, 0
        return self._next_block()

    def _begin(self, evaluation: Evaluation) -> int:
        number = self._next_id
        self._next_id = number + 1
        self._open[number] = _Open(evaluation)
        return number

    def receive(self, body: bytes, now_s: float) -> list[Evaluation]:
        """Takes an answer; the evaluations that it ends. Raises InternalError for what is no answer."""
        try:
            message: Any
            message, data = wire.take_large_data(service_pb2.StreamResponse.DESCRIPTOR, body)
        except DecodeError:
            raise InternalError(f"the answer of {len(body)} bytes is malformed", reason="MALFORMED_ANSWER") from None
        kind = message.WhichOneof("message")
        if kind == "results":
            ended = (self._end(one, data, now_s) for one in message.results.results)
            return [evaluation for evaluation in ended if evaluation is not None]
        if kind == "block":
            self._block(message.block, _inside(data, 1))
            return []
        if kind == "result":
            evaluation = self._end(message.result, _inside(data, 2), now_s)
        elif kind == "failure":
            evaluation = self._fail(message.failure.evaluation_id, message.failure)
        else:
            evaluation = None  # of a newer server
        return [] if evaluation is None else [evaluation]

    def _block(self, block: service_pb2.BlockResult, data: results.Data) -> None:
        under = self._open.get(block.evaluation_id)
        if under is not None and under.assembly is not None:
            under.evaluation.spent |= any(one.in_place for one in under.evaluation.call.out.values())
            under.assembly.block(block, data)

    def _end(self, result: Any, data: results.Data, now_s: float) -> Evaluation | None:
        number, kind = result.evaluation_id, result.WhichOneof("response")
        if kind == "failure":
            return self._fail(number, result.failure)
        under = self._open.pop(number, None)
        if under is None:
            return None
        evaluation = under.evaluation
        response, total_s = getattr(result, kind), now_s - evaluation.start_s
        if under.assembly is None or under.sending is None:
            evaluation.outcome = results.from_message(evaluation.call, response, data, total_s)
        else:
            evaluation.outcome = under.assembly.result(response, data, under.sending.denominator, total_s)
        return evaluation

    def _fail(self, number: int, failure: service_pb2.Failure) -> Evaluation | None:
        under = self._open.pop(number, None)
        if under is None:
            return None
        code = _CODES.get(failure.code, grpc.StatusCode.UNKNOWN)
        under.evaluation.outcome = from_status(code, failure.message, failure.details)
        return under.evaluation


def _inside(data: results.Data, depth: int) -> results.Data:
    return {path[depth:]: elements for path, elements in data.items()} if data else data
