"""What streams need of their server, and what unary calls and streams refuse alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lossd_server.engine.batcher import Waiting
from lossd_server.errors import GoingAway, TooLarge
from lossd_server.jobs.job import Job
from lossd_server.metrics import EvaluationCounts
from lossd_server.tensors.request_fields import Fields

GOING_AWAY_RETRY_S = 1.0


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
    tally: EvaluationCounts
    max_message_bytes: int
    max_deadline_s: float


def going_away() -> GoingAway:
    return GoingAway("the server is going away", reason="GOING_AWAY", retry_after_s=GOING_AWAY_RETRY_S)


def require_fits(size: int, max_message_bytes: int, max_response_bytes: int | None) -> None:
    """Raises TooLarge where an answer of `size` bytes is more than this server sends, or than the client takes."""
    theirs = max_response_bytes is not None and max_response_bytes <= max_message_bytes
    bound = max_response_bytes if theirs else max_message_bytes
    assert bound is not None
    if size > bound:
        raise TooLarge(
            f"the answer would have {size} bytes, {'the client takes' if theirs else 'this server sends'} {bound}",
            reason="RESPONSE_TOO_LARGE",
            metadata={"size_bytes": size, "max_response_bytes": bound},
        )
