"""Verdict on an operation: by its outcome, and by the faults that it may have felt. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from chaos.history import Fault, Record
from lossd.shared_memory.socket_protocol import FULL

# "excused": an error of a kind that a fault, or the client itself, had as its end.
Verdict = Literal["right", "excused", "wrong", "hung"]

_GONE = frozenset({"Unavailable", "DeadlineExceeded"})
_SLOW = frozenset({"Unavailable", "DeadlineExceeded", "Overloaded"})
# What may come of each fault, beside a right answer. A change of certificates, a cache that cannot be written and a
# descriptor table that was full for a second cost nobody an answer that a client cannot repeat in time.
ALLOWED: dict[str, frozenset[str]] = {
    "server killed": _GONE,
    "server drained": _GONE,
    "server stopped": _SLOW,
    "worker killed": _GONE,
    "worker stopped": _SLOW,
    "memory limit": _SLOW,
    "descriptor limit": _GONE,
    "cache damaged": _GONE,
    "cache full": _GONE,
    "cache unwritable": _GONE,
    "certificates changed": frozenset(),
    "token taken away": frozenset({"Unauthenticated"}),
    "client killed": frozenset(),
    "client stopped": _SLOW,
    "no shared memory": frozenset(),
    "cut before preface": _GONE,
    "cut in preface": _GONE,
    "cut in headers": _GONE,
    "cut in body": _GONE,
    "reset in body": _GONE,
    "cut before answer": _GONE,
    "cut in answer": _GONE,
    "cut somewhere": _GONE,
    "one byte at a time": _SLOW,
}
# Where shared memory was demanded and there is none: then the client says so.
_NO_SHARED = frozenset({"MemoryError", "TooLarge"})
_OURS = {"deadline": "DeadlineExceeded", "cancel": "cancelled", "close": "Unavailable"}


def judged(record: Record, faults: Iterable[Fault]) -> Verdict:
    """faults: those that the operation may have felt."""
    if record.outcome in ("right", "hung"):
        return "right" if record.outcome == "right" else "hung"
    if record.outcome == "Overloaded" and record.retry and (record.reason != FULL or record.way == "shared_memory"):
        return "excused"  # the load is a fault of its own: a full server says when to come back
    if record.ours and record.outcome == _OURS[record.ours]:
        return "excused"
    if record.ours == "deadline" and record.reason == "NOT_CONNECTED":
        return "excused"  # it was over before there was a connection
    found = list(faults)
    if any(record.outcome in ALLOWED[one.kind] for one in found):
        return "excused"
    no_room = any(one.kind in ("no shared memory", "memory limit", "descriptor limit") for one in found)
    if record.way == "shared_memory" and record.outcome in _NO_SHARED and no_room:
        return "excused"
    return "wrong"
