"""Session: the evaluations of one stream. No socket and no waiting: messages in, answers and failures out.

What a message means for its evaluation is the table of `session_rules`. Evaluations are independent: each fails alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import cast

from lossd.v1 import service_pb2 as pb
from lossd.wire import Path
from lossd_server.admission.byte_budget import LARGE_ANSWER_BYTES
from lossd_server.admission.stream_budget import Reservation
from lossd_server.call.contract import Body, Message, ServerCall, message_bytes
from lossd_server.engine.batcher import Waiting
from lossd_server.engine.timed_form import timed
from lossd_server.errors import InvalidRequest, ServerError
from lossd_server.intake.intake import Intake
from lossd_server.jobs.partial_results import moved
from lossd_server.shared_memory.registry import copied_here
from lossd_server.streaming import responses
from lossd_server.streaming.complete_evaluations import CompleteEvaluation, MessageGroup
from lossd_server.streaming.complete_opens import CompleteOpens
from lossd_server.streaming.open_request import open_request, request_of
from lossd_server.streaming.planned_opens import PlannedOpens
from lossd_server.streaming.session_rules import RULES, Event, State, Step, end_missing, too_many_open, too_many_opens
from lossd_server.streaming.streamed_evaluation import (
    Block,
    BlockOutcome,
    BlockReply,
    StreamedEvaluation,
    block_form,
    stalled,
)
from lossd_server.streaming.time_slices import TimeSlices
from lossd_server.tensors.request_fields import WireTensor, fields_of
from lossd_server.wire import codec

# Evaluations that one stream may have open at once, and the failed ones that it remembers.
MAX_OPEN = 4096


class Session:
    """send: puts a message in line for the client, and drops the charge when it is written. max_response_bytes: of one
    message, as the client says. call: the stream's. end: ends the stream.
    go_on_with: takes the steps that are left of something, with turns of others between them."""

    def __init__(
        self,
        intake: Intake,
        send: Callable[[Message, Reservation | None], None],
        max_response_bytes: int | None,
        call: ServerCall,
        end: Callable[[ServerError], None],
        go_on_with: Callable[[Iterator[None]], None],
    ) -> None:
        self._intake = intake
        self._send = send
        self.max_results_bytes = min(max_response_bytes or intake.max_message_bytes, intake.max_message_bytes)
        self._max_response_bytes = max_response_bytes
        self.call = call
        self.end_stream, self.go_on_with = end, go_on_with
        self._charge: Reservation | None = None  # of the message that is being received
        self._live: dict[int, StreamedEvaluation | CompleteEvaluation] = {}
        self._failed: dict[int, None] = {}  # in the order in which they failed
        self._complete = CompleteOpens(self, intake)
        self._planned = PlannedOpens(intake, MAX_OPEN, max_response_bytes, call.record)

    @property
    def live(self) -> int:
        """Evaluations that have neither ended nor failed."""
        return len(self._live)

    def receive(self, body: Body, charge: Reservation, now: float) -> Iterator[None]:
        """One message, in steps between which others have their turn: the next message comes after the last of them.

        Raises InvalidRequest where it is none, or names too many: the stream cannot go on.
        """
        self._charge = charge
        try:
            found = self._planned.results(body, self._live, self._failed)
            if found and None not in found:
                for answer in responses.results(cast("list[bytes]", found), self.max_results_bytes):
                    self.send(answer, charge)
                return
            request, views = codec.decode_stream(body)
            kind = request.WhichOneof("message")
            if kind == "opens":
                if len(request.opens.opens) > MAX_OPEN:  # two bytes each keep the loop busy for minutes
                    raise too_many_opens(len(request.opens.opens), MAX_OPEN)
                yield from self._complete.open_all(request.opens.opens, charge, found)
            elif kind == "open":
                self._open(request.open, views, charge, now)
            elif kind == "block":
                self._block(request.block, views, charge, now)
            elif kind == "end":
                self._end(request.end.evaluation_id, now)
            # Else it says nothing, or what a later version of the contract has: nothing of this stream depends on it.
        finally:
            self._charge = None
            charge.settle()
            charge.drop()

    def no_more(self) -> Iterator[None]:
        """The client has sent all: what has no End by now will have none, and fails. In steps."""
        return self._fail_all((one, end_missing(one.id)) for one in self._streamed() if not one.ended)

    def expire(self, now: float, max_stream_idle_s: float, read_since: float) -> None:
        """Fails the evaluations for which nothing has come for so long, while the stream was read on."""
        late = [
            (one, stalled(max_stream_idle_s))
            for one in self._streamed()
            if one.stalled and max(one.at, read_since) + max_stream_idle_s <= now
        ]
        if late:
            self.go_on_with(self._fail_all(late))

    def _streamed(self) -> list[StreamedEvaluation]:
        return [one for one in self._live.values() if isinstance(one, StreamedEvaluation)]

    def _fail_all(self, late: Iterable[tuple[StreamedEvaluation, ServerError]]) -> Iterator[None]:
        slices = TimeSlices()
        for one, error in late:
            if slices.is_over():
                yield
            if self._live.get(one.id) is one:
                self._fail(one.id, error)

    def abandon(self) -> None:
        """The stream is over: nothing of it is computed any further."""
        for one in self._live.values():
            one.abandon()
        self._live.clear()
        self._complete.abandon()

    # What complete evaluations, and those who answer for them, need of their session.

    def admit(self, evaluation_id: int, evaluation: CompleteEvaluation | StreamedEvaluation) -> None:
        """It is live from now on, until `ended`."""
        self._failed.pop(evaluation_id, None)
        self._live[evaluation_id] = evaluation

    def require_room(self) -> None:
        """Raises GoingAway, and Overloaded where too many evaluations are open."""
        self._intake.require_open()
        if len(self._live) > MAX_OPEN:
            raise too_many_open(len(self._live), MAX_OPEN)

    def require_fits(self, size: int) -> int:
        """The bytes that an answer of `size` is charged with: all, where it is large. Raises TooLarge."""
        self._intake.require_fits(size, self._max_response_bytes)
        return size if size >= LARGE_ANSWER_BYTES else 0

    def deadline(self) -> float:
        return self._intake.deadline(self.call.deadline, time.monotonic())

    def ended(self, evaluation_id: int, loss: str) -> None:
        del self._live[evaluation_id]
        self._intake.metrics.completed(loss)

    def failed(self, evaluation_id: int, loss: str, error: Exception) -> ServerError:
        """One has failed: what is told of it."""
        del self._live[evaluation_id]
        self._remember(evaluation_id)
        return self._intake.failed_alone("Stream", error, self.call, loss)

    def send(self, body: Message, charge: Reservation | None) -> None:
        """charge: of the message that it answers."""
        self._send(body, charge and charge.hold())

    def allowed(self, evaluation_id: int, event: Event) -> bool:
        """Whether a message is to be taken; else what the table says has been done."""
        rule = RULES[self._state(evaluation_id), event]
        if rule is Step.TAKE:
            return True
        if rule is Step.FORGET:
            del self._failed[evaluation_id]
        elif not isinstance(rule, Step):
            self._fail(evaluation_id, rule(evaluation_id))
        return False

    def block_computed(self, evaluation: StreamedEvaluation, block: Block, outcome: BlockOutcome | Exception) -> None:
        """`block`, the one that was being computed, has its outcome."""
        evaluation.waiting = None
        if isinstance(outcome, Exception):
            self._fail(evaluation.id, outcome, block.first)
            return
        evaluation.computed(outcome)
        evaluation.block = None
        evaluation.at = max(evaluation.at, time.monotonic())
        block.charge.settle(message_bytes(outcome.body))  # the block itself is let go
        if outcome.body:
            self.send(outcome.body, block.charge)
        block.charge.drop()
        self._advance(evaluation)

    def _state(self, evaluation_id: int) -> State:
        one = self._live.get(evaluation_id)
        if one is None:
            return State.FAILED if evaluation_id in self._failed else State.ABSENT
        if isinstance(one, CompleteEvaluation):
            return State.COMPLETE
        return State.ENDED if one.ended else State.OPEN

    def _open(self, one: pb.Open, views: Mapping[Path, memoryview], charge: Reservation, now: float) -> None:
        evaluation_id = one.evaluation_id
        if not self.allowed(evaluation_id, Event.OPEN):
            return None
        self._failed.pop(evaluation_id, None)
        rpc = ""
        try:
            self.require_room()
            rpc, number, request = request_of(one)
            fields = fields_of(request, views, ("open", cast("str", one.WhichOneof("request"))))
            if any(isinstance(value, WireTensor) and value.storage == "streamed" for value in fields.values()):
                opened = open_request(rpc, self._intake.resolve(fields), self._intake.max_message_bytes)
                charge.grow(copied_here(fields))
                charge.leave()
                return self.admit(evaluation_id, StreamedEvaluation(evaluation_id, number, opened, charge.hold(), now))
            job = self._intake.check_fields(rpc, fields) if views else self._intake.check_message(rpc, request)
            charge.grow(self.require_fits(codec.response_bytes(job)) + job.copied_bytes)
        except Exception as error:
            return self._fail(evaluation_id, error, loss=rpc)
        whole = CompleteEvaluation(MessageGroup(self, 1, charge, alone=True), 0, evaluation_id, rpc)
        self.admit(evaluation_id, whole)
        return self._complete.submit(whole, number, job)

    def _block(self, block: pb.Block, views: Mapping[Path, memoryview], charge: Reservation, now: float) -> None:
        if not self.allowed(block.evaluation_id, Event.BLOCK):
            return
        evaluation = cast("StreamedEvaluation", self._live[block.evaluation_id])
        evaluation.at = now
        try:
            fields = fields_of(block, views, ("block",))
            fields.pop("evaluation_id", None)
            first = fields.pop("first_item", 0)
            job = evaluation.receive(first, fields)
            charge.settle(charge.needs + self.require_fits(responses.block_bytes(job)))
        except Exception as error:
            self._fail(evaluation.id, error, block.first_item)
            return
        evaluation.blocks.append(Block(first, job, charge.hold()))
        self._advance(evaluation)

    def _end(self, evaluation_id: int, now: float) -> None:
        if not self.allowed(evaluation_id, Event.END):
            return None
        evaluation = cast("StreamedEvaluation", self._live[evaluation_id])
        evaluation.at = now
        try:
            evaluation.end()
        except InvalidRequest as error:
            return self._fail(evaluation_id, error)
        return self._advance(evaluation)

    def _advance(self, evaluation: StreamedEvaluation) -> None:
        """Has the next block computed, or answers the End. What goes wrong here is the evaluation's alone."""
        try:
            self._go_on(evaluation)
        except Exception as error:
            self._fail(evaluation.id, error)

    def _go_on(self, evaluation: StreamedEvaluation) -> None:
        block = evaluation.start()
        if block is not None:
            form = timed(self.call.record, block.job, partial(block_form, evaluation.id, block.first))
            reply, now_ns, sharer = BlockReply(self, evaluation, block), time.monotonic_ns(), evaluation.charge.sharer
            evaluation.waiting = Waiting(block.job, self.deadline(), now_ns, reply, evaluation.carry, form, 1, sharer)
            self._intake.submit([evaluation.waiting])
        elif evaluation.finished:
            answer, queue_ns, compute_ns, rows = evaluation.answer()
            response = codec.closing(answer, queue_ns, compute_ns, 1, rows)
            fields = responses.result_fields(evaluation.id, evaluation.number, response)
            body = responses.stream_response(responses.RESULT, fields)
            del self._live[evaluation.id]
            self._intake.metrics.completed(evaluation.loss)
            self.send(body, evaluation.charge)
            evaluation.abandon()

    def _fail(self, evaluation_id: int, error: Exception, first_item: int = 0, loss: str = "") -> None:
        """The evaluation fails alone. first_item: of the block that an index in the sentence counts from."""
        one = self._live.pop(evaluation_id, None)
        said = moved(self._intake.failed_alone("Stream", error, self.call, one.loss if one else loss), first_item)
        self._remember(evaluation_id)
        if isinstance(one, CompleteEvaluation):
            one.fail(said)
            return
        failure = responses.failure(evaluation_id, said, self.call)
        self.send(responses.stream_response(responses.FAILURE, [failure]), self._charge if one is None else one.charge)
        if one is not None:
            one.abandon()

    def _remember(self, evaluation_id: int) -> None:
        self._failed[evaluation_id] = None
        while len(self._failed) > MAX_OPEN:
            del self._failed[next(iter(self._failed))]
