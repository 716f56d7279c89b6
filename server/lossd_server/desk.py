"""What streams need of their server, and what an Open can ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lossd.v1 import service_pb2 as pb
from lossd_server.batcher import Waiting
from lossd_server.info import Tally
from lossd_server.job import Job
from lossd_server.opening import refusal
from lossd_server.sent import Fields

# The request's field in Open: the RPC that takes it, its number (the response's in EvaluationResult).
REQUESTS: Mapping[str, tuple[str, int]] = {
    field.name: (field.message_type.name.removesuffix("Request"), field.number)
    for field in pb.Open.DESCRIPTOR.fields
    if field.message_type is not None
}


@dataclass(frozen=True, slots=True)
class Desk:
    """What a session needs of its server.

    recall: the Job of a small request; check: of any; resolve: fields with their shared memory looked up; submit: puts
    jobs in line together.
    """

    recall: Callable[[str, Any], Job]
    check: Callable[[str, Fields], Job]
    resolve: Callable[[Fields], Fields]
    submit: Callable[[Sequence[Waiting[Any]]], None]
    tally: Tally
    max_message_bytes: int
    max_deadline_s: float


def request_of(one: pb.Open) -> tuple[str, int, Any]:
    """(RPC, field number, request) of what an Open asks for. Raises InvalidRequest."""
    name = one.WhichOneof("request")
    if name is None:
        raise refusal("the Open has no request", "MISSING_FIELD", "request")
    return *REQUESTS[name], getattr(one, name)
