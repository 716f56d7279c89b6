"""Holdings of callers: what each has under way, all of its connections together, and what it may have. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lossd_server.call.identity import CALLER, Identity, peer_host
from lossd_server.errors import RETRY_AFTER_S, Overloaded

# Callers whose limits are remembered: more begin anew.
REMEMBERED = 1024


class CallerHolding:
    """Of one caller. requests, streams: calls under way. bytes: that they are charged with.

    identity: the caller; limits: what it may have in this process.
    """

    __slots__ = ("bytes", "identity", "limits", "requests", "streams")

    def __init__(self, identity: Identity, limits: Identity) -> None:
        self.identity = identity
        self.limits = limits
        self.bytes = 0
        self.requests = 0
        self.streams = 0

    def has_room(self, size: int) -> bool:
        """Whether it may hold `size` bytes more. One that holds nothing may."""
        bound = self.limits.max_inflight_bytes
        return not bound or not self.bytes or self.bytes + size <= bound

    def require(self, size: int) -> None:
        """Raises Overloaded where it may not."""
        if not self.has_room(size):
            raise self._at_limit("max_inflight_bytes", f"holds {self.bytes} bytes, this call would add {size}")

    def require_open(self, held: int, size: int) -> None:
        """Raises Overloaded where open evaluations, which hold so many bytes, may not hold `size` more: beyond half of
        what it may hold, the blocks that they wait for would find no room."""
        if self.limits.max_inflight_bytes and held and 2 * (held + size) > self.limits.max_inflight_bytes:
            raise self._at_limit(
                "max_inflight_bytes",
                f"has open evaluations of {held} bytes, which may be half, this has {size}",
            )

    def enter(self, streams: bool) -> None:
        """A call of it begins. Raises Overloaded, and counts nothing then, where it has as many as it may."""
        limits = self.limits
        if streams:
            if limits.max_streams and self.streams >= limits.max_streams:
                raise self._at_limit("max_streams", f"has {self.streams} streams under way")
            self.streams += 1
        else:
            if limits.max_inflight_requests and self.requests >= limits.max_inflight_requests:
                raise self._at_limit("max_inflight_requests", f"has {self.requests} calls under way")
            self.requests += 1

    @property
    def is_empty(self) -> bool:
        return not (self.requests or self.streams or self.bytes)

    def _at_limit(self, limit: str, has: str) -> Overloaded:
        bound, name = getattr(self.limits, limit), self.limits.name
        return Overloaded(
            f"{name} {has}, and its {limit} is {bound}",
            reason="CALLER_LIMIT",
            metadata={"name": name, "limit": limit, "bound": bound},
            retry_after_s=RETRY_AFTER_S,
        )


class CallerHoldings:
    """Of all callers that have anything under way, by name: one that changes its limits keeps what it has.

    limits: of whoever has none of its own; the name says nothing. workers: processes that share every limit.
    """

    def __init__(self, limits: Identity | None = None, workers: int = 1) -> None:
        self._limits = limits or Identity("")
        self._workers = workers
        self._held: dict[str, CallerHolding] = {}
        self._shares: dict[Identity, Identity] = {}

    def __len__(self) -> int:
        return len(self._held)

    def limits_of(self, identity: Identity) -> Identity:
        """What it may have in all processes together: its own limits, else those of everybody."""
        own, every = identity, self._limits
        return replace(
            own,
            max_inflight_requests=own.max_inflight_requests or every.max_inflight_requests,
            max_inflight_bytes=own.max_inflight_bytes or every.max_inflight_bytes,
            max_streams=own.max_streams or every.max_streams,
        )

    def of(self, identity: Identity) -> CallerHolding:
        """What it has here, to be given to `forget` once that may be nothing."""
        holding = self._held.get(identity.name)
        if holding is None:
            holding = self._held[identity.name] = CallerHolding(identity, self._share(identity))
        elif holding.identity is not identity:
            holding.identity, holding.limits = identity, self._share(identity)
        return holding

    def of_call(self, peer: str) -> CallerHolding:
        """Of who makes the call that runs."""
        return self.of(CALLER.get() or Identity(peer_host(peer)))

    def leave(self, holding: CallerHolding, streams: bool) -> None:
        """A call that has entered is over."""
        if streams:
            holding.streams -= 1
        else:
            holding.requests -= 1
        self.forget(holding)

    def forget(self, holding: CallerHolding) -> None:
        """Where it has nothing any more."""
        if holding.is_empty:
            self._held.pop(holding.limits.name, None)

    def held_by_identity(self) -> Iterator[tuple[str, int]]:
        """What each holds now that has shown who it is: a name, and bytes."""
        return ((name, holding.bytes) for name, holding in self._held.items() if holding.identity.verified)

    def _share(self, identity: Identity) -> Identity:
        """Of one process: at least one call, and bytes rounded up."""
        share = self._shares.get(identity)
        if share is None:
            whole, count = self.limits_of(identity), self._workers
            share = replace(
                whole,
                max_inflight_requests=-(-whole.max_inflight_requests // count),
                max_inflight_bytes=-(-whole.max_inflight_bytes // count),
                max_streams=-(-whole.max_streams // count),
            )
            if len(self._shares) >= REMEMBERED:
                self._shares.clear()
            self._shares[identity] = share
        return share
