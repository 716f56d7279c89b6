"""Unary call: one call while the server has it. What it is charged with, and until when it may go on."""

from __future__ import annotations

import asyncio
from math import inf

from lossd_server.admission.byte_budget import Admission
from lossd_server.admission.caller_holdings import CallerHoldings
from lossd_server.call.contract import Message, ServerCall
from lossd_server.call.identity import sharer_of
from lossd_server.engine.batcher import Waiting
from lossd_server.errors import Overloaded


class UnaryCall:
    """`charged` is what admission holds for it, -1 before; `reserved` while that is the largest message.

    `reading` until its message is there, `arriving` from when that has begun. `until`, on time.monotonic, is when its
    present stage is given up; `expired` then tells that from a cancellation by the client, and `error` is what it is
    told where its time is not over.
    """

    __slots__ = (
        "_opened_s", "_source", "arriving", "caller", "charged", "error", "expired", "reading", "reserved", "sharer",
        "task", "until", "waiting",
    )  # fmt: skip

    def __init__(
        self,
        task: asyncio.Task[object],
        source: ServerCall,
        opened_s: float,
        max_body_s: float,
        callers: CallerHoldings,
    ) -> None:
        """Made in the call's own task."""
        self.task = task
        self.sharer = sharer_of(source)
        self.caller = callers.of_call(source.peer)
        self.until = opened_s + max_body_s
        self.expired = False
        self.error: Overloaded | None = None
        self._source = source
        self._opened_s = opened_s
        self.charged = -1
        self.arriving = False
        self.reading = True
        self.reserved = False
        self.waiting: Waiting[asyncio.Future[Message]] | None = None

    def reserve(self, admission: Admission) -> bool:
        if not admission.reserve(self.caller):
            return False
        self.charged = admission.max_message_bytes
        self.reserved = True
        return True

    def settle(self, admission: Admission, size: int) -> None:
        admission.settle(size, self.caller)
        self.charged = size
        self.reserved = False

    def charge(self, admission: Admission, size: int) -> None:
        """For a request for which there is room."""
        admission.charge(size, self.caller)
        self.charged = size

    def stands_at(self, admission: Admission, size: int) -> None:
        """What it holds is known now: the charge becomes that. Raises Overloaded."""
        admission.grow(size - self.charged, self.charged, self.caller)
        self.charged = size

    def release(self, admission: Admission) -> None:
        if self.reserved:
            self.settle(admission, 0)
        if self.charged >= 0:
            admission.release(self.charged, self.caller)
            self.charged = -1

    @property
    def stalled_since(self) -> float:
        """When its client could have gone on, on time.monotonic; +∞ while it is computed. An early time at most."""
        computed = self.waiting is not None and not self.waiting.reply.done()
        return inf if computed or self.expired else self._opened_s

    def given_up(self) -> bool:
        """After a cancellation: whether it was ours, for its time was over. Whatever waits for it is let go."""
        if self.waiting is not None:
            self.waiting.abandon()
        if self.expired:
            self.task.uncancel()
        return self.expired

    def expire(self) -> None:
        self.expired = True
        self.until = inf
        self.task.cancel()

    def push_out(self, error: Overloaded) -> bool:
        """It has to make room: its client is told, or hears of a reset where its answer is on the way. False where the
        front cannot take that back.
        """
        if not self.reading:
            return self._source.abandon()
        self.error = error
        self.expire()
        return True
