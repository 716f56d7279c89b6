"""Limits of callers: how many calls and streams an identity may have at once, all of its connections together. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from lossd_server.admission.byte_budget import RETRY_AFTER_S
from lossd_server.call.identity import Identity
from lossd_server.errors import Overloaded


class CallerLimits:
    """Counts what is under way by name: an identity that changes its limits keeps what it has."""

    def __init__(self) -> None:
        self._requests: Counter[str] = Counter()
        self._streams: Counter[str] = Counter()

    @contextmanager
    def held(self, identity: Identity, streams: bool) -> Iterator[None]:
        """A call of `identity`, for as long as the context lasts. Raises Overloaded where it has as many as it may."""
        counts, what = (self._streams, "max_streams") if streams else (self._requests, "max_inflight_requests")
        bound = identity.max_streams if streams else identity.max_inflight_requests
        name = identity.name
        if bound and counts[name] >= bound:
            raise Overloaded(
                f"{name} has {counts[name]} {'streams' if streams else 'calls'} under way, and its {what} is {bound}",
                reason="CALLER_LIMIT",
                metadata={"name": name, "limit": what, "bound": bound},
                retry_after_s=RETRY_AFTER_S,
            )
        counts[name] += 1
        try:
            yield
        finally:
            counts[name] -= 1
            if not counts[name]:
                del counts[name]
