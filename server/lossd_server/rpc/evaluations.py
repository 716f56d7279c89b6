"""Unary evaluations: calls of one evaluation each, whatever service they belong to.

Registered, admitted, charged, put in line, given up when their time is over. What a message means is `ReadRequest`'s.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from lossd_server.admission.byte_budget import LARGE_ANSWER_BYTES, Admission
from lossd_server.call.contract import Body, Message, ServerCall
from lossd_server.config.settings import Settings
from lossd_server.engine.batcher import Form
from lossd_server.engine.timed_form import timed
from lossd_server.engine.worker import Worker
from lossd_server.errors import DeadlineOver, ServerError
from lossd_server.intake.intake import Intake
from lossd_server.jobs.job import Job
from lossd_server.rpc.request_body import BodyReader
from lossd_server.rpc.unary_call import UnaryCall
from lossd_server.wire import metadata


@dataclass(frozen=True, slots=True)
class CheckedRequest:
    """A request that is to be computed. answer_bytes: of its answer, no fewer than that will have.

    form: what becomes of the answer; None: the response of the job's RPC. timeout_s: beside the call's own deadline.
    """

    job: Job
    answer_bytes: int
    form: Form | None = None
    timeout_s: float = inf


# Reads a call's message, with the largest answer that its client takes: what is to be computed, or the answer itself
# where that is known at once. Raises ServerError.
ReadRequest = Callable[[Body, int | None], CheckedRequest | Message]


class UnaryEvaluations:
    """Of one server. Everything here runs on the event loop's thread. given_back: called when something was."""

    def __init__(
        self,
        settings: Settings,
        admission: Admission,
        worker: Worker,
        intake: Intake,
        given_back: Callable[[], object],
    ) -> None:
        self.intake = intake
        self._settings = settings
        self._admission = admission
        self._worker = worker
        self._given_back = given_back
        self._calls: set[UnaryCall] = set()
        self._bodies = BodyReader(admission, settings.max_admission_wait_s, self._calls)
        self._idle = asyncio.Event()  # set when the last call has ended while closing
        self._idle.set()

    @property
    def waiting(self) -> int:
        """Calls that wait for room."""
        return self._bodies.waiting

    async def drain(self) -> None:
        """The intake is closed: waits for the calls that were accepted."""
        if self._calls:
            self._idle.clear()
        await self._idle.wait()

    def expire(self, now: float) -> None:
        """Gives up the calls whose time is over at `now`, on time.monotonic."""
        for call in [call for call in self._calls if call.until <= now]:
            call.expire()

    def wake(self) -> None:
        """Something was given back: whoever waits for it has another look."""
        self._bodies.wake()

    async def evaluate(
        self, rpc: str, source: ServerCall, read: ReadRequest, loss: Callable[[], str] | None = None
    ) -> Message:
        """The call's answer. rpc: for the log. loss: tells what was asked for, once that is known; None: `rpc`.

        Raises ServerError, counted; CancelledError where the client left.
        """
        call = None
        try:
            call = self._open(source)
            return await self._answer(rpc, source, call, read)
        except asyncio.CancelledError:
            if call is None or not call.given_up():
                raise
            raise self.intake.refused(rpc, self._time_over(call), source, loss() if loss else rpc) from None
        except Exception as error:
            raise self.intake.refused(rpc, error, source, loss() if loss else rpc) from None

    async def _answer(self, rpc: str, source: ServerCall, call: UnaryCall, read: ReadRequest) -> Message:
        announced, max_response_bytes = metadata.sizes(source.metadata)
        size = await source.next_size()  # a call that sends nothing keeps no batch waiting
        self._worker.require_time(size or announced or 0, call.sharer, source.deadline)
        call.arriving = True
        self._worker.arriving += 1
        body = await self._bodies.read(call, source, announced)
        call.reading = call.arriving = False
        self._worker.arriving -= 1
        record = source.record
        began_ns = 0 if record is None else time.monotonic_ns()
        checked = read(body, max_response_bytes)
        if not isinstance(checked, CheckedRequest):
            if record is not None:
                rows = self.intake.rows_of(rpc, body)
                record.answered_at_once(rpc if rows else "", rows, began_ns)
            call.until = inf
            return checked
        job = checked.job
        self.intake.require_fits(checked.answer_bytes, max_response_bytes)
        self._charge(call, len(body) + job.copied_bytes, checked.answer_bytes)
        now = time.monotonic()
        call.until = self.intake.deadline(min(source.deadline, now + checked.timeout_s), now)
        call.waiting = self._worker.submit(job, call.until, timed(record, job, checked.form), call.sharer)
        asked = job.rpc
        del job, body, checked  # the worker lets go of them first
        answer = await call.waiting.reply
        self.intake.metrics.completed(asked)
        call.until = inf
        return answer

    def _charge(self, call: UnaryCall, size: int, answer_bytes: int) -> None:
        """The charge becomes what the call holds, its answer included where that is large. Raises Overloaded."""
        held = size + (answer_bytes if answer_bytes >= LARGE_ANSWER_BYTES else 0)
        if held != call.charged:
            less = held < call.charged
            call.stands_at(self._admission, held)
            if less:
                self._given_back()

    def _open(self, source: ServerCall) -> UnaryCall:
        """Registers the call that runs this; it is forgotten when its answer is written."""
        self.intake.require_open()
        task = asyncio.current_task()
        assert task is not None
        call = UnaryCall(task, source, time.monotonic(), self._settings.max_body_s, self._admission.callers)
        self._calls.add(call)

        def close() -> None:
            self._calls.discard(call)
            if call.arriving:
                self._worker.arriving -= 1
            call.release(self._admission)
            self._given_back()
            if self.intake.closing and not self._calls:
                self._idle.set()

        source.on_close(close)
        return call

    def _time_over(self, call: UnaryCall) -> ServerError:
        if call.error is not None:
            return call.error
        if call.waiting is None:
            bound = self._settings.max_body_s
            return DeadlineOver(
                f"the message was not there after {bound} s", reason="BODY_TIMEOUT", metadata={"max_body_s": bound}
            )
        return DeadlineOver("the call's time is over", reason="DEADLINE_EXCEEDED")
