"""Complete evaluations: opened with all their tensors. Those that share a message, and those computed as one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Protocol

from lossd_server.admission.stream_budget import Reservation
from lossd_server.call.contract import Message, ServerCall, message_bytes, whole_message
from lossd_server.engine.batcher import Form, Waiting
from lossd_server.engine.timed_form import timed
from lossd_server.errors import ServerError, out_of_memory
from lossd_server.fast_path.recall import RECALLED_BYTES, TARGETED, recallable
from lossd_server.jobs.job import Answer, Job
from lossd_server.jobs.stacks import stackable, stacked
from lossd_server.streaming import responses
from lossd_server.streaming.time_slices import CLOCK_EACH, TimeSlices
from lossd_server.wire import codec

# An evaluation that reads and writes more has a message of its own: it would keep smaller ones waiting.
OWN_BYTES = 1 << 17


class CompleteOwner(Protocol):
    """The session, as those here see it. max_results_bytes: of a message of several results. call: its stream's."""

    max_results_bytes: int
    call: ServerCall

    def ended(self, evaluation_id: int, loss: str) -> None: ...

    def failed(self, evaluation_id: int, loss: str, error: Exception) -> ServerError: ...

    def send(self, body: Message, charge: Reservation | None) -> None: ...

    def go_on_with(self, steps: Iterator[None]) -> None: ...

    def end_stream(self, error: ServerError) -> None: ...


class StackOwner(Protocol):
    """Who put evaluations in line as one."""

    def stack_done(self, stack: StackReply) -> None: ...

    def one_by_one(self, like: AlikeEvaluations) -> None: ...


class MessageGroup:
    """The evaluations that shared a message: answered together, when the last of them is done.

    alone: a single Open, answered in its own kind of message.
    """

    def __init__(self, session: CompleteOwner, count: int, charge: Reservation, alone: bool = False) -> None:
        self.session = session
        self.alone = alone
        self._found: list[tuple[int, bytes | ServerError] | None] = [None] * count
        self._missing = count
        self.charge = charge.hold()
        if not count:
            self.charge.drop()

    def put(self, place: int, evaluation_id: int, result: bytes | ServerError) -> None:
        """An EvaluationResult, or what it is to tell, to be sent with the others."""
        self._found[place] = evaluation_id, result
        self.none(place)

    def none(self, place: int) -> None:
        """Nothing is to be sent with the others for this one."""
        self._missing -= 1
        if not self._missing:
            self.session.go_on_with(self._answer())

    def _answer(self) -> Iterator[None]:
        """Sends what was found. To write thousands of failures takes long: it is done in steps."""
        slices, session = TimeSlices(), self.session
        try:
            results = []
            for place, one in enumerate(self._found):
                if not place % CLOCK_EACH and slices.is_over():
                    yield
                if one is not None:
                    evaluation_id, found = one
                    if not isinstance(found, bytes):
                        found = responses.failed_result(evaluation_id, found, session.call)
                    results.append(found)
            for body in responses.results(results, session.max_results_bytes):
                session.send(body, self.charge)
        except MemoryError:  # nobody else would tell of them
            session.end_stream(out_of_memory())
        finally:
            self.charge.drop()


class CompleteEvaluation:
    """An evaluation that is complete in itself: what its answer is given to (`replies.Reply`). loss: once known."""

    __slots__ = ("_over", "group", "id", "loss", "own", "place", "waiting")

    def __init__(self, group: MessageGroup, place: int, evaluation_id: int, loss: str = "") -> None:
        self.group = group
        self.place = place
        self.id = evaluation_id
        self.loss = loss
        self.own = group.alone
        self.waiting: Waiting[Any] | None = None
        self._over = False

    def done(self) -> bool:
        return self._over

    def set_result(self, result: Message, /) -> None:
        """The EvaluationResult; a StreamResponse where it has a message of its own."""
        self._over = True
        group = self.group
        group.session.ended(self.id, self.loss)
        if self.own:
            if group.alone:
                group.charge.settle(message_bytes(result))  # its request is let go
            group.session.send(result, group.charge)
            group.none(self.place)
        else:
            group.put(self.place, self.id, whole_message(result))

    def set_exception(self, exception: Exception, /) -> None:
        self.fail(self.group.session.failed(self.id, self.loss, exception))

    def fail(self, said: ServerError) -> None:
        """Its Failure is sent as its result would have been."""
        self._over = True
        group = self.group
        call = group.session.call
        if group.alone:
            failure = responses.failure(self.id, said, call)
            group.session.send(responses.stream_response(responses.FAILURE, [failure]), group.charge)
            group.none(self.place)
        else:
            # Kept for a while, and with it every frame that it came through: of thousands, a long collection.
            said.__traceback__ = said.__context__ = said.__cause__ = None
            group.put(self.place, self.id, said)
        self._leave_line()

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        self._over = True
        self._leave_line()

    def _leave_line(self) -> None:
        if self.waiting is not None:
            self.waiting.abandon()
            self.waiting = None


class AlikeEvaluations:
    """Opens of one message that say the same but for the numbers of input and target.

    request: of the last of them, without those numbers.
    """

    def __init__(self, rpc: str, number: int) -> None:
        self.rpc = rpc
        self.number = number
        self.request: Any = None
        self.wholes: list[CompleteEvaluation] = []
        self.inputs: list[bytes] = []
        self.targets: list[bytes] = []

    def add(self, whole: CompleteEvaluation, request: Any, x: bytes, y: bytes) -> None:
        self.request = request
        self.wholes.append(whole)
        self.inputs.append(x)
        self.targets.append(y)

    def single(self, place: int) -> Any:
        """The request of one of them; the one before it is gone then."""
        request = self.request
        request.input.data = self.inputs[place]
        if self.targets[place]:
            request.target.data = self.targets[place]
        return request

    def stack(self, job: Job, deadline: float, now_ns: int) -> Waiting[Any] | None:
        """All of them in line as one; job: that of the first. None where they are not to be computed so."""
        if len(self.wholes) == 1 or job.work_bytes > OWN_BYTES or job.places or not stackable(job):
            return None
        targeted = bool(self.targets[0])
        if not recallable(job, self.request, targeted):
            return None
        made = stacked(job, self.inputs, self.targets, self.request.target.dtype if targeted else 0)
        if made is None:
            return None
        form: Form = partial(responses.stacked_results, [whole.id for whole in self.wholes], self.number)
        group = self.wholes[0].group
        timed_form = timed(group.session.call.record, made[0], form)
        return Waiting(made[0], deadline, now_ns, None, made[1], timed_form, len(self.wholes), group.charge.sharer)


class StackReply:
    """Evaluations that are computed as one: what their answers are given to (`replies.Reply`)."""

    __slots__ = ("_like", "_over", "_owner", "_waiting")

    def __init__(self, owner: StackOwner, like: AlikeEvaluations, waiting: Waiting[Any]) -> None:
        self._owner = owner
        self._like = like
        self._waiting = waiting
        self._over = False

    def done(self) -> bool:
        return self._over

    def set_result(self, result: list[bytes], /) -> None:
        """Their EvaluationResults."""
        self._owner.stack_done(self)
        for whole, body in zip(self._like.wholes, result, strict=True):
            if not whole.done():
                whole.set_result(body)

    def set_exception(self, exception: Exception, /) -> None:
        """Which of them is at fault is seen when each is computed by itself."""
        self._owner.stack_done(self)
        self._owner.one_by_one(self._like)

    def abandon(self) -> None:
        self._over = True
        self._waiting.abandon()


def apart(rpc: str, request: Any) -> tuple[bytes, bytes, bytes] | None:
    """(the request without the numbers of input and target, those of the input, those of the target): takes them out
    of it. None, and all is left, where the request is not small, or its numbers are elsewhere."""
    given = request.input
    x: bytes = given.data
    targeted = rpc in TARGETED and request.HasField("target")
    y: bytes = request.target.data if targeted else b""
    if not x or (targeted and not y) or len(x) + len(y) > RECALLED_BYTES:
        return None
    given.ClearField("data")
    if targeted:
        request.target.ClearField("data")
    return request.SerializeToString(), x, y


def whole_form(
    evaluation_id: int,
    number: int,
    own: bool,
    answer: Answer,
    queue_ns: int,
    compute_ns: int,
    requests: int,
    rows: int,
) -> Message:
    """The EvaluationResult of an answer; own: the StreamResponse that it has for itself."""
    response = codec.pieces(answer, queue_ns, compute_ns, requests, rows)
    fields = responses.result_fields(evaluation_id, number, response)
    return responses.stream_response(responses.RESULT, fields) if own else b"".join(fields)
