"""Identity of a caller: who it is, and what it may have at most."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Identity:
    """name: as the tokens' file or the certificate has it. Bounds of 0: none of its own, beside the server's.

    max_inflight_requests, max_streams: calls that have one answer, and streams, on all of its connections together.
    """

    name: str
    max_inflight_requests: int = 0
    max_streams: int = 0


# Of the call that runs; None where nobody is asked.
CALLER: ContextVar[Identity | None] = ContextVar("CALLER", default=None)
