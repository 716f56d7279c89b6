"""Opens of complete evaluations: put in line one by one or, where they are alike, as one."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

from lossd.v1 import service_pb2 as pb
from lossd_server.admission.stream_budget import Reservation
from lossd_server.engine.batcher import Waiting
from lossd_server.engine.timed_form import timed
from lossd_server.intake.intake import Intake
from lossd_server.jobs.job import Job
from lossd_server.streaming.complete_evaluations import (
    OWN_BYTES,
    AlikeEvaluations,
    CompleteEvaluation,
    CompleteOwner,
    MessageGroup,
    StackReply,
    apart,
    whole_form,
)
from lossd_server.streaming.open_request import request_of
from lossd_server.streaming.session_rules import Event
from lossd_server.streaming.time_slices import CLOCK_EACH, TimeSlices
from lossd_server.wire import codec


class OpeningSession(CompleteOwner, Protocol):
    """The session, as those here see it."""

    def allowed(self, evaluation_id: int, event: Event) -> bool: ...

    def admit(self, evaluation_id: int, evaluation: CompleteEvaluation) -> None: ...

    def require_room(self) -> None: ...

    def require_fits(self, size: int) -> int: ...

    def deadline(self) -> float: ...


class CompleteOpens:
    """Of one session."""

    def __init__(self, session: OpeningSession, intake: Intake) -> None:
        self._session = session
        self._intake = intake
        self._stacks: set[StackReply] = set()

    def open_all(
        self, opens: Sequence[pb.Open], charge: Reservation, found: Sequence[bytes | None] = ()
    ) -> Iterator[None]:
        """The Opens of one message, answered together: in slices of the loop's time, which end at each step.

        found: by place, the results that are known already.
        """
        session, slices = self._session, TimeSlices()
        group = MessageGroup(session, len(opens), charge)
        line: list[Waiting[Any]] = []
        alike: dict[tuple[int, int, int, bytes], AlikeEvaluations] = {}
        for place, one in enumerate(opens):
            if not place % CLOCK_EACH and slices.is_over():
                yield
            evaluation_id = one.evaluation_id
            known = found[place] if found else None
            if known is not None:
                group.put(place, evaluation_id, known)
                continue
            if not session.allowed(evaluation_id, Event.OPEN):
                group.none(place)
                continue
            whole = CompleteEvaluation(group, place, evaluation_id)
            session.admit(evaluation_id, whole)
            try:
                session.require_room()
                rpc, number, request = request_of(one)
                whole.loss = rpc
            except Exception as error:
                whole.set_exception(error)
                continue
            said = apart(rpc, request)
            if said is None:
                line += self._single(whole, rpc, number, request)
                continue
            key, x, y = said
            like = alike.get((number, len(x), len(y), key))
            if like is None:
                like = alike[number, len(x), len(y), key] = AlikeEvaluations(rpc, number)
            like.add(whole, request, x, y)
        for like in alike.values():
            line += yield from self._line(like, slices)
        self._intake.submit(line)

    def submit(self, whole: CompleteEvaluation, number: int, job: Job) -> None:
        """One that has been checked."""
        self._intake.submit([self._waiting(whole, number, job)])

    def stack_done(self, stack: StackReply) -> None:
        self._stacks.discard(stack)

    def one_by_one(self, like: AlikeEvaluations) -> None:
        """They could not be computed as one."""
        self._session.go_on_with(self._one_by_one(like))

    def _one_by_one(self, like: AlikeEvaluations) -> Iterator[None]:
        slices = TimeSlices()
        self._intake.submit((yield from self._singles(like, 0, slices)))

    def abandon(self) -> None:
        """Nobody waits for any of them any more."""
        for stack in self._stacks:
            stack.abandon()
        self._stacks.clear()

    def _line(self, like: AlikeEvaluations, slices: TimeSlices) -> Generator[None, None, list[Waiting[Any]]]:
        """In line as one, where that can be."""
        whole = like.wholes[0]
        first = self._single(whole, like.rpc, like.number, like.single(0))
        if first and not whole.own and first[0].job is not None:
            waiting = like.stack(first[0].job, self._session.deadline(), time.monotonic_ns())
            if waiting is not None:
                waiting.reply = StackReply(self, like, waiting)
                self._stacks.add(waiting.reply)
                return [waiting]
        return first + (yield from self._singles(like, 1, slices))

    def _singles(
        self, like: AlikeEvaluations, first: int, slices: TimeSlices
    ) -> Generator[None, None, list[Waiting[Any]]]:
        """Those from the `first` on in line, each by itself."""
        line: list[Waiting[Any]] = []
        for place in range(first, len(like.wholes)):
            if not place % CLOCK_EACH and slices.is_over():
                yield
            line += self._single(like.wholes[place], like.rpc, like.number, like.single(place))
        return line

    def _single(self, whole: CompleteEvaluation, rpc: str, number: int, request: Any) -> list[Waiting[Any]]:
        """In line by itself; nothing where it is refused."""
        if whole.done():
            return []
        try:
            job = self._intake.check_message(rpc, request)
            whole.group.charge.grow(self._session.require_fits(codec.response_bytes(job)) + job.copied_bytes)
        except Exception as error:
            whole.set_exception(error)
            return []
        return [self._waiting(whole, number, job)]

    def _waiting(self, whole: CompleteEvaluation, number: int, job: Job) -> Waiting[Any]:
        own = whole.group.alone or job.work_bytes > OWN_BYTES
        form = timed(self._session.call.record, job, partial(whole_form, whole.id, number, own))
        whole.own = own
        sharer = whole.group.charge.sharer
        whole.waiting = Waiting(job, self._session.deadline(), time.monotonic_ns(), whole, None, form, sharer=sharer)
        return whole.waiting
