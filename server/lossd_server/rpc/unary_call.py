"""Unary call: one call while the server has it. What it is charged with, and until when it may go on."""

from __future__ import annotations

import asyncio

from lossd_server.admission.byte_budget import Admission
from lossd_server.call.contract import Message
from lossd_server.engine.batcher import Waiting


class UnaryCall:
    """`charged` is what admission holds for it, -1 before; `reserved` while that is the largest message.

    `reading` until its message is there. `until`, on time.monotonic, is when its present stage is given up; `expired`
    then tells that from a cancellation by the client.
    """

    __slots__ = ("charged", "expired", "reading", "reserved", "task", "until", "waiting")

    def __init__(self, task: asyncio.Task[object], until: float) -> None:
        self.task = task
        self.until = until
        self.expired = False
        self.charged = -1
        self.reading = True
        self.reserved = False
        self.waiting: Waiting[asyncio.Future[Message]] | None = None

    def admit(self, admission: Admission, size: int) -> None:
        admission.admit(size)
        self.charged = size

    def reserve(self, admission: Admission) -> bool:
        if not admission.reserve():
            return False
        self.charged = admission.max_message_bytes
        self.reserved = True
        return True

    def settle(self, admission: Admission, size: int) -> None:
        admission.settle(size)
        self.charged = size
        self.reserved = False

    def charge(self, admission: Admission, size: int) -> None:
        """For a request for which there is room."""
        admission.charge(size)
        self.charged = size

    def stands_at(self, admission: Admission, size: int) -> None:
        """What it holds is known now: the charge becomes that. Raises Overloaded."""
        admission.grow(size - self.charged)
        self.charged = size

    def release(self, admission: Admission) -> None:
        if self.reserved:
            self.settle(admission, 0)
        if self.charged >= 0:
            admission.release(self.charged)
            self.charged = -1

    def given_up(self) -> bool:
        """After a cancellation: whether it was ours, for its time was over. Whatever waits for it is let go."""
        if self.waiting is not None:
            self.waiting.abandon()
        if self.expired:
            self.task.uncancel()
        return self.expired

    def expire(self) -> None:
        self.expired = True
        self.until = float("inf")
        self.task.cancel()
