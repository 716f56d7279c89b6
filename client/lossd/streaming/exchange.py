"""Exchange on one stream: which message is sent next, and what an answer says. Pure: no channel, no waiting.

`add` and `receive` belong to one thread, `next_message` may belong to another: they share deques and dicts by single
operations only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import grpc

from lossd import results, wire
from lossd.errors import from_status
from lossd.fast_path.request_template import RequestTemplate, call_of
from lossd.streaming.block_messages import OPENS, Assembly, Part, Sending, head
from lossd.streaming.evaluation import Evaluation, SmallEvaluation
from lossd.streaming.result_entries import Entry, results_of
from lossd.v1 import service_pb2

# Evaluations that share a message, and their bytes: a message costs 0.1 ms whatever is in it.
MOST_TOGETHER = 128
MOST_TOGETHER_BYTES = 1 << 19
# Answers that wait to be looked at: more would hold more memory, fewer would stop the wire between two looks.
MOST_RECEIVED = 4
# Of an entry beside its elements: shapes, tags, options.
ENTRY_BYTES = 512
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class _Blocks:
    """An evaluation whose blocks are sent, or were."""

    __slots__ = ("assembly", "evaluation", "sending")

    def __init__(self, evaluation: Evaluation, number: int) -> None:
        assert evaluation.cut is not None
        self.evaluation = evaluation
        self.assembly = Assembly(evaluation.call, evaluation.cut)
        self.sending = Sending(evaluation.call, evaluation.cut, number, evaluation.route.denominator)


class Exchange:
    """What is said on one stream. sent: messages so far. max_message_bytes: the server's; 0: it names none."""

    def __init__(self, max_message_bytes: int, evaluations: Iterable[SmallEvaluation] = ()) -> None:
        self._under: _Blocks | None = None  # whose blocks are being sent
        self._reported = 0
        self._together_bytes = min(MOST_TOGETHER_BYTES, max_message_bytes or MOST_TOGETHER_BYTES)
        self._outbox = deque(evaluations)
        self._open: dict[int, SmallEvaluation] = {}
        self._cut: dict[int, _Blocks] = {}  # of those, the ones in blocks
        self._next_id = 1
        self._blocks: Iterator[bytes] | None = None
        self._blocks_id = 0
        self.sent = 0

    def add(self, evaluation: SmallEvaluation) -> None:
        """To be sent after those before it."""
        self._outbox.append(evaluation)

    @property
    def has_unsent(self) -> bool:
        return self._blocks is not None or bool(self._outbox)

    @property
    def unsent(self) -> int:
        """Evaluations of which nothing was sent."""
        return len(self._outbox)

    def is_settled(self) -> bool:
        """Whether all that was sent is answered."""
        return not self._open

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
        if under is None or under.evaluation.progress is None:
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
        outbox, opened, number = self._outbox, self._open, self._next_id
        last = number + MOST_TOGETHER
        parts: list[Part] = [b""]
        size = weight = 0
        while outbox and number < last and outbox[0].cut is None:
            weight += outbox[0].nbytes + ENTRY_BYTES
            if size and weight > self._together_bytes:
                break
            evaluation = outbox.popleft()
            if isinstance(evaluation, Evaluation) and not evaluation.parts:
                evaluation.read_now()
            opened[number] = evaluation
            identity = b"\x08" + wire.varint(number)
            entry = len(identity) + evaluation.size
            opening = head(1, entry)
            size += len(opening) + entry
            parts += opening, identity
            parts += evaluation.parts
            number += 1
        self._next_id = number
        parts[0] = head(OPENS, size)
        return b"".join(parts)

    def _first(self) -> bytes | None:
        evaluation = self._outbox.popleft()
        assert isinstance(evaluation, Evaluation)
        self._blocks_id = number = self._next_id
        self._next_id = number + 1
        under = self._cut[number] = _Blocks(evaluation, number)
        self._open[number] = evaluation
        self._blocks = iter(under.sending)
        self._under, self._reported = under, 0
        return self._next_block()

    def receive(self, body: bytes, now_s: float) -> list[SmallEvaluation]:
        """Takes an answer; the evaluations that it ends. Raises InternalError for what is no answer."""
        entries = results_of(body)
        if entries is not None:
            ended = (self._end_entry(body, entry, now_s) for entry in entries)
            return [evaluation for evaluation in ended if evaluation is not None]
        message, data = results.parse(service_pb2.StreamResponse.DESCRIPTOR, body)
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
        under = self._cut.get(block.evaluation_id)
        if under is not None:
            under.evaluation.spent |= any(one.in_place for one in under.evaluation.call.out.values())
            under.assembly.block(block, data)

    def _end_entry(self, body: bytes, entry: Entry, now_s: float) -> SmallEvaluation | None:
        """As `_end`, of a result in the bytes of a message."""
        number, tag, at, start, end = entry
        evaluation = self._open.get(number)
        if evaluation is None:
            return None
        form = evaluation.form
        if type(form) is RequestTemplate and tag == form.result_tag:
            del self._open[number]
            evaluation.outcome = form.read(body[start:end], now_s - evaluation.start_s)
            return evaluation
        result, data = results.parse(service_pb2.EvaluationResult.DESCRIPTOR, body[at:end])
        return self._end(result, _inside(data, 1), now_s)

    def _end(self, result: Any, data: results.Data, now_s: float) -> SmallEvaluation | None:
        number, kind = result.evaluation_id, result.WhichOneof("response")
        if kind == "failure":
            return self._fail(number, result.failure)
        evaluation, under = self._closed(number)
        if evaluation is None:
            return None
        response, total_s = getattr(result, kind), now_s - evaluation.start_s
        if under is None:
            evaluation.outcome = results.from_message(call_of(evaluation.form), response, data, total_s)
        else:
            evaluation.outcome = under.assembly.result(response, data, under.sending.denominator, total_s)
        return evaluation

    def _fail(self, number: int, failure: service_pb2.Failure) -> SmallEvaluation | None:
        evaluation, _ = self._closed(number)
        if evaluation is not None:
            code = _CODES.get(failure.code, grpc.StatusCode.UNKNOWN)
            evaluation.outcome = from_status(code, failure.message, failure.details)
        return evaluation

    def _closed(self, number: int) -> tuple[SmallEvaluation | None, _Blocks | None]:
        return self._open.pop(number, None), self._cut.pop(number, None)


def _inside(data: results.Data, depth: int) -> results.Data:
    return {path[depth:]: elements for path, elements in data.items()} if data else data
