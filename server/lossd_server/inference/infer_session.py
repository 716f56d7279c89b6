"""Session of ModelStreamInfer: evaluations complete in their messages, answered in the order of their requests.

Each fails alone, one whose bytes are no message too: its answer says so in its turn. Admission, time and pace are the
stream's, which knows no difference to other sessions.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from lossd_server.admission.byte_budget import LARGE_ANSWER_BYTES
from lossd_server.admission.stream_budget import Reservation
from lossd_server.call.contract import Body, Message, ServerCall, message_bytes
from lossd_server.engine.batcher import Waiting
from lossd_server.engine.timed_form import timed
from lossd_server.errors import ServerError
from lossd_server.inference.infer_response import stream_error
from lossd_server.inference.inference import Inference
from lossd_server.inference.statistics import InferenceStatistics
from lossd_server.inference.templates import InferTemplates
from lossd_server.intake.intake import Intake
from lossd_server.rpc.evaluations import CheckedRequest

RPC = "ModelStreamInfer"


class InferSession:
    """As `stream_session.MakeSession` says."""

    def __init__(
        self,
        templates: InferTemplates,
        statistics: InferenceStatistics,
        intake: Intake,
        send: Callable[[Message, Reservation | None], None],
        max_response_bytes: int | None,
        call: ServerCall,
        end: Callable[[ServerError], None],
        go_on_with: Callable[[Iterator[None]], None],
    ) -> None:
        self.intake = intake
        self._templates = templates
        self._statistics = statistics
        self._send = send
        self._max_response_bytes = max_response_bytes
        self.call = call
        self._until = call.deadline
        self._line: deque[StreamedInference] = deque()

    @property
    def live(self) -> int:
        return len(self._line)

    def receive(self, body: Body, charge: Reservation, now: float) -> Iterator[None]:
        inference = Inference(self.intake, self._templates, self._statistics, streamed=True)
        one = StreamedInference(self, inference, charge.hold())
        self._line.append(one)
        try:
            self._submit(one, body, charge, now)
        except Exception as error:
            one.set_exception(error)
        finally:
            charge.settle()
            charge.drop()
        return iter(())

    def no_more(self) -> Iterator[None]:
        return iter(())

    def expire(self, now: float, max_stream_idle_s: float, read_since: float) -> None:
        """Nothing: what is here waits for no client."""

    def abandon(self) -> None:
        for one in self._line:
            one.abandon()
        self._line.clear()

    def flush(self) -> None:
        """Sends the answers whose turn it is."""
        line = self._line
        while line and (answer := line[0].answer) is not None:
            self._send(answer, line.popleft().charge)

    def _submit(self, one: StreamedInference, body: Body, charge: Reservation, now: float) -> None:
        intake = self.intake
        intake.require_open()
        record = self.call.record
        began_ns = 0 if record is None else time.monotonic_ns()
        checked = one.inference.read(body, self._max_response_bytes)
        if not isinstance(checked, CheckedRequest):
            if record is not None:
                record.answered_at_once("", 0, began_ns)
            one.send(checked)
            return
        intake.require_fits(checked.answer_bytes, self._max_response_bytes)
        answer_bytes = checked.answer_bytes if checked.answer_bytes >= LARGE_ANSWER_BYTES else 0
        charge.grow(answer_bytes + checked.job.copied_bytes)
        until = intake.deadline(min(self._until, now + checked.timeout_s), now)
        form = timed(record, checked.job, checked.form)
        one.waiting = Waiting(checked.job, until, time.monotonic_ns(), one, form=form, sharer=charge.sharer)
        intake.submit((one.waiting,))


class StreamedInference:
    """One request of the stream: what its answer is given to (`replies.Reply`). answer: once it is known."""

    __slots__ = ("_over", "_session", "answer", "charge", "inference", "waiting")

    def __init__(self, session: InferSession, inference: Inference, charge: Reservation) -> None:
        self.inference = inference
        self.charge = charge
        self.answer: Message | None = None
        self.waiting: Waiting[Any] | None = None
        self._session = session
        self._over = False

    def done(self) -> bool:
        return self._over

    def set_result(self, result: Message, /) -> None:
        self._session.intake.metrics.completed(self.inference.loss)
        self.send(result)

    def send(self, result: Message) -> None:
        """The same of one that was answered by a plan, which has counted it."""
        self._ended(True, result)

    def set_exception(self, exception: Exception, /) -> None:
        call = self._session.call
        said = self._session.intake.failed_alone(RPC, exception, call, self.inference.loss)
        if call.record is not None:
            call.record.evaluation_failed(said.reason)
        self._ended(False, stream_error(self.inference.model_name, self.inference.id, said))

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        self._over = True
        if self.waiting is not None:
            self.waiting.abandon()

    def _ended(self, succeeded: bool, answer: Message) -> None:
        self._over = True
        self.answer = answer
        self.inference.ended(succeeded)
        self.charge.settle(message_bytes(answer))  # its request is let go
        self._session.flush()
