"""Places for streams: how many each connection may have, and which stream makes room for another. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

from lossd_server.admission.fair_share import within
from lossd_server.admission.stream_shares import ConnectionShare


class Placed(Protocol):
    """A stream that has a place."""

    @property
    def share(self) -> ConnectionShare:
        """Its connection's."""

    @property
    def silent_since(self) -> float:
        """When its client last had something to do with it, on time.monotonic; +∞ where anything is open."""


S = TypeVar("S", bound=Placed)


def has_place(own: int, taken: int, most: int) -> bool:
    """Whether a connection that has `own` of the `taken` places may have one more, of `most`: it leaves a quarter of
    what is there beside the others'."""
    return taken < most and (not own or within(own, taken - own, most))


def makes_room(streams: Iterable[S], own: int, now: float, idle_s: float) -> S | None:
    """The stream whose place goes to a connection that has `own`: the one that has been silent for longest, where that
    is `idle_s`, or where its connection has more places than the other will have then."""
    silent = [
        one
        for one in streams
        if one.silent_since + idle_s <= now or (one.silent_since <= now and one.share.streams > own + 1)
    ]
    return min(silent, key=lambda one: one.silent_since, default=None)
