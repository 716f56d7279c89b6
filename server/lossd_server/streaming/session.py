"""One stream's evaluations: what each message means, and what is answered. It decides and never waits.

Evaluations fail alone. One that failed stays known for a while: what the client sent for it before it could know is
left unread, silently.
"""

# long because everything that an evaluation's id can meet is decided in one class: apart, its state would be shared.

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from google.protobuf.message import DecodeError

from lossd.v1 import service_pb2 as pb
from lossd.wire import Path, take_large_data
from lossd_server.admission.stream_budget import Reservation
from lossd_server.engine.batcher import Waiting
from lossd_server.errors import InvalidRequest, Overloaded
from lossd_server.jobs.job import Job
from lossd_server.jobs.partial_results import moved
from lossd_server.shared_memory.registry import copied_here
from lossd_server.streaming import responses
from lossd_server.streaming.complete_evaluations import (
    OWN_BYTES,
    AlikeEvaluations,
    CompleteEvaluation,
    MessageGroup,
    StackReply,
    apart,
    whole_form,
)
from lossd_server.streaming.desk import GOING_AWAY_RETRY_S, Desk, going_away, require_fits
from lossd_server.streaming.open_request import open_request, refusal, request_of
from lossd_server.streaming.streamed_evaluation import (
    Block,
    BlockOutcome,
    BlockReply,
    StreamedEvaluation,
    block_form,
    in_use,
    stalled,
    unknown,
)
from lossd_server.tensors import request_fields
from lossd_server.tensors.request_fields import WireTensor
from lossd_server.wire import codec
from lossd_server.wire.status import told

# Evaluations that one stream may have open at once, and the failed ones that it remembers.
MAX_OPEN = 4096


class Session:
    """send: puts a message in line for the client, and drops the charge when it is written. max_response_bytes: of one
    message, as the client says. until: the call's own deadline, on time.monotonic."""

    def __init__(
        self,
        desk: Desk,
        send: Callable[[bytes, Reservation | None], None],
        max_response_bytes: int | None = None,
        until: float = float("inf"),
    ) -> None:
        self.closing = False
        self._desk = desk
        self._send = send
        self._most = min(max_response_bytes or desk.max_message_bytes, desk.max_message_bytes)
        self._max_response_bytes = max_response_bytes
        self._until = until
        self._charge: Reservation | None = None  # of the message that is being received
        self._live: dict[int, StreamedEvaluation | CompleteEvaluation] = {}
        self._together: set[StackReply] = set()
        self._failed: dict[int, None] = {}  # in the order in which they failed

    @property
    def live(self) -> int:
        """Evaluations that have neither ended nor failed."""
        return len(self._live)

    def receive(self, body: bytes, charge: Reservation, now: float) -> None:
        """One message. Raises InvalidRequest where it is none, or names too many: the stream cannot go on."""
        try:
            message, views = take_large_data(pb.StreamRequest.DESCRIPTOR, body)
        except DecodeError:
            message, views = pb.StreamRequest(), {}
        request = cast("pb.StreamRequest", message)
        kind = request.WhichOneof("message")
        self._charge = charge
        try:
            if kind == "opens":
                self._open_all(request.opens.opens, charge, now)
            elif kind == "open":
                self._open(request.open, views, charge, now)
            elif kind == "block":
                self._block(request.block, views, charge, now)
            elif kind == "end":
                self._end(request.end.evaluation_id, now)
            else:
                raise InvalidRequest(
                    f"the message of {len(body)} bytes is no lossd.v1.StreamRequest",
                    reason="MALFORMED_MESSAGE",
                    metadata={"bytes": len(body), "message": "lossd.v1.StreamRequest"},
                )
        finally:
            self._charge = None
            charge.drop()

    def no_more(self) -> None:
        """The client has sent all: what has no End by now will have none, and is not answered."""
        for one in list(self._live.values()):
            if isinstance(one, StreamedEvaluation) and not one.ended:
                del self._live[one.id]
                one.abandon()

    def expire(self, now: float, max_stream_idle_s: float, read_since: float) -> None:
        """Fails the evaluations for which nothing has come for so long, while the stream was read on."""
        for one in list(self._live.values()):
            if (
                isinstance(one, StreamedEvaluation)
                and one.stalled
                and max(one.at, read_since) + max_stream_idle_s <= now
            ):
                self._fail(one.id, stalled(max_stream_idle_s))

    def abandon(self) -> None:
        """The stream is over: nothing of it is computed any further."""
        for one in [*self._live.values(), *self._together]:
            one.abandon()
        self._live.clear()
        self._together.clear()

    def ended(self, evaluation_id: int, completed: bool) -> None:
        """An evaluation complete in itself has its result, or what it failed with."""
        del self._live[evaluation_id]
        if completed:
            self._desk.tally.completed += 1
        else:
            self._desk.tally.failed += 1
            self._remember(evaluation_id)

    def forget(self, together: StackReply) -> None:
        self._together.discard(together)

    def send(self, body: bytes, charge: Reservation | None) -> None:
        """charge: of the message that it answers."""
        self._send(body, charge and charge.hold())

    def send_results(self, found: list[bytes], charge: Reservation) -> None:
        for body in responses.results(found, self._most):
            self.send(body, charge)

    def _open_all(self, opens: Sequence[pb.Open], charge: Reservation, now: float) -> None:
        if len(opens) > MAX_OPEN:  # two bytes each are enough to keep the loop busy for minutes
            raise refusal(
                f"the message has {len(opens)} Opens, at most {MAX_OPEN} are taken",
                "TOO_MANY_OPENS",
                "opens",
                opens=len(opens),
                bound=MAX_OPEN,
            )
        group = MessageGroup(self, len(opens), charge)
        line: list[Waiting[Any]] = []
        alike: dict[tuple[int, int, int, bytes], AlikeEvaluations] = {}
        deadline, now_ns = self._deadline(now), time.monotonic_ns()
        for place, one in enumerate(opens):
            evaluation_id = one.evaluation_id
            if evaluation_id in self._live:
                self._fail(evaluation_id, in_use(evaluation_id))
                group.none(place)
                continue
            self._failed.pop(evaluation_id, None)
            whole = CompleteEvaluation(group, place, evaluation_id)
            self._live[evaluation_id] = whole
            try:
                self._admit()
                rpc, number, request = request_of(one)
            except Exception as error:
                whole.set_exception(error)
                continue
            said = apart(rpc, request)
            if said is None:
                line += self._single(whole, rpc, number, request, deadline, now_ns)
                continue
            key, x, y = said
            like = alike.get((number, len(x), len(y), key))
            if like is None:
                like = alike[number, len(x), len(y), key] = AlikeEvaluations(rpc, number)
            like.add(whole, request, x, y)
        for like in alike.values():
            line += self._line(like, deadline, now_ns)
        self._desk.submit(line)

    def _line(self, like: AlikeEvaluations, deadline: float, now_ns: int) -> list[Waiting[Any]]:
        """In line as one, where that can be."""
        whole = like.wholes[0]
        first = self._single(whole, like.rpc, like.number, like.single(0), deadline, now_ns)
        if first and not whole.own and first[0].job is not None:
            waiting = like.stack(first[0].job, deadline, now_ns)
            if waiting is not None:
                waiting.reply = StackReply(self, like, waiting)
                self._together.add(waiting.reply)
                return [waiting]
        for place, another in enumerate(like.wholes[1:], 1):
            first += self._single(another, like.rpc, like.number, like.single(place), deadline, now_ns)
        return first

    def _single(
        self, whole: CompleteEvaluation, rpc: str, number: int, request: Any, deadline: float, now_ns: int
    ) -> list[Waiting[Any]]:
        """In line by itself; nothing where it is refused."""
        if whole.done():
            return []
        try:
            job = self._desk.recall(rpc, request)
            self._require_fits(codec.response_bytes(job))
            whole.group.charge.grow(job.copied_bytes)
        except Exception as error:
            whole.set_exception(error)
            return []
        return [self._waiting(whole, number, job, deadline, now_ns)]

    def one_by_one(self, like: AlikeEvaluations) -> None:
        """They could not be computed as one."""
        deadline, now_ns = self._deadline(time.monotonic()), time.monotonic_ns()
        line = []
        for place, whole in enumerate(like.wholes):
            line += self._single(whole, like.rpc, like.number, like.single(place), deadline, now_ns)
        self._desk.submit(line)

    def _open(self, one: pb.Open, views: Mapping[Path, memoryview], charge: Reservation, now: float) -> None:
        evaluation_id = one.evaluation_id
        if evaluation_id in self._live:
            self._fail(evaluation_id, in_use(evaluation_id))
            return
        self._failed.pop(evaluation_id, None)
        try:
            self._admit()
            rpc, number, request = request_of(one)
            fields = request_fields.fields_of(request, views, ("open", cast("str", one.WhichOneof("request"))))
            if any(isinstance(value, WireTensor) and value.storage == "streamed" for value in fields.values()):
                found = open_request(rpc, self._desk.resolve(fields), self._desk.max_message_bytes)
                charge.grow(copied_here(fields))
                charge.leave()
                self._live[evaluation_id] = StreamedEvaluation(evaluation_id, number, found, charge.hold(), now)
                return
            job = self._desk.check(rpc, fields) if views else self._desk.recall(rpc, request)
            self._require_fits(codec.response_bytes(job))
            charge.grow(job.copied_bytes)
        except Exception as error:
            self._fail(evaluation_id, error)
            return
        whole = CompleteEvaluation(MessageGroup(self, 1, charge, alone=True), 0, evaluation_id)
        self._live[evaluation_id] = whole
        self._desk.submit([self._waiting(whole, number, job, self._deadline(now), time.monotonic_ns())])

    def _block(self, block: pb.Block, views: Mapping[Path, memoryview], charge: Reservation, now: float) -> None:
        evaluation = self._streamed(block.evaluation_id)
        if evaluation is None:
            return
        evaluation.at = now
        try:
            fields = request_fields.fields_of(block, views, ("block",))
            fields.pop("evaluation_id", None)
            first = fields.pop("first_item", 0)
            job = evaluation.receive(first, fields)
            self._require_fits(responses.block_bytes(job))
        except Exception as error:
            self._fail(evaluation.id, error, block.first_item)
            return
        evaluation.blocks.append(Block(first, job, charge.hold()))
        self._advance(evaluation)

    def _end(self, evaluation_id: int, now: float) -> None:
        if evaluation_id in self._failed and evaluation_id not in self._live:
            del self._failed[evaluation_id]
            return
        evaluation = self._streamed(evaluation_id)
        if evaluation is None:
            return
        evaluation.at = now
        try:
            evaluation.end()
        except InvalidRequest as error:
            self._fail(evaluation_id, error)
            return
        self._advance(evaluation)

    def _streamed(self, evaluation_id: int) -> StreamedEvaluation | None:
        """The evaluation that a Block or End is of; None where it has failed, or never was."""
        one = self._live.get(evaluation_id)
        if isinstance(one, StreamedEvaluation):
            return one
        if one is not None:
            error = refusal(
                "the evaluation is complete in itself, neither Block nor End follows", "NOT_STREAMED", "evaluation_id"
            )
            self._fail(evaluation_id, error)
        elif evaluation_id not in self._failed:
            self._fail(evaluation_id, unknown(evaluation_id))
        return None

    def _advance(self, evaluation: StreamedEvaluation) -> None:
        """Has the next block computed, or answers the End."""
        block = evaluation.start()
        if block is not None:
            form = partial(block_form, evaluation.id, block.first)
            turn, deadline = BlockReply(self, evaluation, block), self._deadline(time.monotonic())
            evaluation.waiting = Waiting(block.job, deadline, time.monotonic_ns(), turn, evaluation.carry, form)
            self._desk.submit([evaluation.waiting])
        elif evaluation.finished:
            del self._live[evaluation.id]
            answer, queue_ns, compute_ns, rows = evaluation.answer()
            response = codec.closing(answer, queue_ns, compute_ns, 1, rows)
            body = responses.stream_response(
                responses.RESULT, responses.result_fields(evaluation.id, evaluation.number, response)
            )
            self._desk.tally.completed += 1
            self.send(body, self._charge)
            evaluation.abandon()

    def block_computed(self, evaluation: StreamedEvaluation, block: Block, outcome: BlockOutcome | Exception) -> None:
        """`block`, the one that was being computed, has its outcome."""
        evaluation.waiting = None
        if isinstance(outcome, Exception):
            self._fail(evaluation.id, outcome, block.first)
            return
        evaluation.computed(outcome)
        evaluation.block = None
        evaluation.at = max(evaluation.at, time.monotonic())
        if outcome.body:
            self.send(outcome.body, block.charge)
        block.charge.drop()
        self._advance(evaluation)

    def _fail(self, evaluation_id: int, error: Exception, first_item: int = 0) -> None:
        """The evaluation fails alone. first_item: of the block that an index in the sentence counts from."""
        one = self._live.pop(evaluation_id, None)
        said = moved(told("Stream", error), first_item)
        self._remember(evaluation_id)
        self._desk.tally.failed += 1
        if isinstance(one, CompleteEvaluation):
            one.fail(said)
            return
        self.send(responses.stream_response(responses.FAILURE, [responses.failure(evaluation_id, said)]), self._charge)
        if one is not None:
            one.abandon()

    def _remember(self, evaluation_id: int) -> None:
        self._failed[evaluation_id] = None
        while len(self._failed) > MAX_OPEN:
            del self._failed[next(iter(self._failed))]

    def _admit(self) -> None:
        if self.closing:
            raise going_away()
        if len(self._live) > MAX_OPEN:
            raise Overloaded(
                f"this stream has {len(self._live)} evaluations open, at most {MAX_OPEN} are taken",
                reason="OVERLOADED",
                metadata={"open": len(self._live), "bound": MAX_OPEN},
                retry_after_s=GOING_AWAY_RETRY_S,
            )

    def _waiting(self, whole: CompleteEvaluation, number: int, job: Job, deadline: float, now_ns: int) -> Waiting[Any]:
        own = whole.group.alone or job.work_bytes > OWN_BYTES
        form = partial(whole_form, whole.id, number, own)
        whole.own = own
        whole.waiting = Waiting(job, deadline, now_ns, whole, None, form)
        return whole.waiting

    def _require_fits(self, size: int) -> None:
        require_fits(size, self._desk.max_message_bytes, self._max_response_bytes)

    def _deadline(self, now: float) -> float:
        return min(self._until, now + self._desk.max_deadline_s)
