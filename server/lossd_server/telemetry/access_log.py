"""Access log: an event for each call, or for each that fails. Sizes, times and names; never what a call says."""

from __future__ import annotations

import logging
from typing import Any

from lossd_server.call.record import CallRecord
from lossd_server.telemetry.code_names import code_name
from lossd_server.wire.status import shorten

log = logging.getLogger(__name__)

# Of a method and a peer, which clients choose.
MOST_TEXT_BYTES = 256


class AccessLog:
    """`recorded_routes.CallSink`. every: also of calls that succeed."""

    def __init__(self, every: bool) -> None:
        self.every = every
        log.setLevel(logging.INFO)  # who asks for it wants it, whatever else is logged

    def is_wanted(self) -> bool:
        return True

    def __call__(self, record: CallRecord) -> None:
        if self.every or record.code or record.failed:
            log.info("call", extra=_fields(record))


def _fields(record: CallRecord) -> dict[str, Any]:
    """In the order in which they are written; a name that is not there is left out."""
    fields: dict[str, Any] = {
        "request_id": record.request_id,
        "method": shorten(record.method, MOST_TEXT_BYTES),
        "peer": shorten(record.peer, MOST_TEXT_BYTES),
    }
    if record.identity:
        fields["identity"] = record.identity
    fields |= {
        "request_bytes": record.request_bytes,
        "response_bytes": record.response_bytes,
        "code": code_name(record.code),
    }
    if record.reason:
        fields["reason"] = record.reason
    if record.failed:
        fields["failed_evaluations"] = record.failed
    return fields | {
        "queue_ms": _ms(record.queue_ns),
        "compute_ms": _ms(record.compute_ns),
        "duration_ms": _ms(record.ended_ns - record.began_ns),
    }


def _ms(ns: int) -> float:
    return round(ns / 1e6, 3)
