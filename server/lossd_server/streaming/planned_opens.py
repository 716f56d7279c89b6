"""Planned Opens: those of a message that say the same as requests before them, answered without objects for each."""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic_ns

import numpy as np

from lossd.wire import message_field, varint
from lossd_server.call.contract import Body
from lossd_server.call.record import CallRecord
from lossd_server.fast_path.burst import Planned, address_of_bytes
from lossd_server.fast_path.recall import RECALLED_BYTES
from lossd_server.intake.intake import Intake
from lossd_server.streaming import opens_walk
from lossd_server.streaming.open_request import REQUESTS
from lossd_server.streaming.responses import EVALUATION_ID
from lossd_server.tensors.array import address_of

# A message's planned Opens end once they take so long: others wait for the loop.
MOST_NS = 1_000_000.0
RPCS = {number: rpc for rpc, number in REQUESTS.values()}


class PlannedOpens:
    """Of one stream. most: Opens of a message that are looked at; max_response_bytes: of one answer, as the client
    says. record: the stream's, where somebody looks on."""

    def __init__(
        self, intake: Intake, most: int, max_response_bytes: int | None, record: CallRecord | None = None
    ) -> None:
        self._record = record
        self._intake = intake
        self._most = most
        self._max_response_bytes = max_response_bytes

    def results(self, body: Body, *known_ids: Iterable[int]) -> list[bytes | None]:
        """The EvaluationResults of a message, by place: None for what is to be opened in the general way.

        Empty where it is no message of Opens, or not a plain one. known_ids: of evaluations that the stream knows of.
        """
        if not body or body[0] != opens_walk.OPENS or self._intake.closing:
            return []
        first = address_of_bytes(body) if isinstance(body, bytes) else address_of(np.frombuffer(body, np.uint8))
        rows = np.empty((min(self._most, len(body) // 4), 4), np.int64)
        count = opens_walk.walk(first, len(body), rows)
        if count <= 0:
            return []
        opens = rows[:count].tolist()
        ids = {row[0] for row in opens}
        if len(ids) != count or not all(map(ids.isdisjoint, known_ids)):
            return []
        found: list[bytes | None] = [None] * count
        planned: list[Planned] = []
        places: list[int] = []
        intake = self._intake
        cost_ns = 0.0
        for place, (_, number, begin, end) in enumerate(opens):
            if cost_ns >= MOST_NS:  # the rest is put in line
                break
            if end - begin > RECALLED_BYTES:  # none is remembered that is so large: it is not copied for that
                continue
            known = intake.recalled(RPCS[number], bytes(body[begin:end]))
            plan = None if known is None else intake.plan(known, self._max_response_bytes)
            if plan is not None:
                cost_ns += plan.cost_ns
                planned.append((plan, first + begin))
                places.append(place)
        began_ns = 0 if self._record is None else monotonic_ns()
        answers = intake.answer_at_once(planned)
        if self._record is not None and planned:
            losses = {RPCS[opens[place][1]] for place in places}
            loss = losses.pop() if len(losses) == 1 else ""
            self._record.answered_at_once(loss, sum(plan.rows for plan, _ in planned), began_ns)
        for place, answer in zip(places, answers, strict=True):
            if answer is not None:
                evaluation_id, number = opens[place][:2]
                found[place] = b"".join((EVALUATION_ID, varint(evaluation_id), message_field(number, answer)))
        return found
