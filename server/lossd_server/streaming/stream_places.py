"""Places for streams: how many each connection may have, and which stream makes room for another. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

from lossd_server.admission.fair_share import within
from lossd_server.admission.stream_shares import ConnectionShare
from lossd_server.errors import RETRY_AFTER_S, Overloaded


class Placed(Protocol):
    """A stream that has a place."""

    @property
    def share(self) -> ConnectionShare:
        """Its connection's."""

    @property
    def silent_since(self) -> float:
        """When its client last had something to do with it, on time.monotonic; +∞ where anything is open."""


S = TypeVar("S", bound=Placed)


def has_place(share: ConnectionShare, taken: int, most: int) -> bool:
    """Whether the newest stream of `share` may have a place, of `most` of which `taken` are others': its connection
    leaves a quarter of what is there beside the other connections', and so does its caller beside other callers'."""
    own, callers = share.streams - 1, share.caller.streams - 1
    return taken < most and all(not had or within(had, taken - had, most) for had in (own, callers))


def no_stream_place(share: ConnectionShare, taken: int, most: int) -> Overloaded:
    """share: without the stream that is refused."""
    own, callers = share.streams, share.caller.streams
    return Overloaded(
        f"the server has {taken} streams, of at most {most}, {callers} of them of this caller and {own} on this"
        " connection, each of which may have three quarters of what others leave",
        reason="OVERLOADED",
        metadata={"streams": taken, "caller_streams": callers, "connection_streams": own, "bound": most},
        retry_after_s=RETRY_AFTER_S,
    )


def makes_room(streams: Iterable[S], share: ConnectionShare, now: float, idle_s: float) -> S | None:
    """The stream whose place goes to the newest of `share`: the one that has been silent for longest, where that is
    `idle_s`, or where its caller has more places than the other's with that one, or its connection than another of the
    same caller."""
    silent = [
        one
        for one in streams
        if one.silent_since + idle_s <= now or (one.silent_since <= now and _has_more(one.share, share))
    ]
    return min(silent, key=lambda one: one.silent_since, default=None)


def _has_more(one: ConnectionShare, newest: ConnectionShare) -> bool:
    """Whether `one` would still have as much without one of its streams as `newest` has with its own."""
    if one.caller is newest.caller:
        return one.streams > newest.streams
    return one.caller.streams > newest.caller.streams
