"""Byte budget: how much the server holds at once. Pure policy over bytes and requests, no clock and no I/O.

A call that said its size is charged with it before its body is read. One that did not is charged with the largest
message until its body is there. Since such a charge is mostly air, calls of the second kind wait for each other rather
than be refused; what is refused is refused for bytes that are really held.
"""

from __future__ import annotations

from lossd_server.admission.caller_holdings import CallerHolding, CallerHoldings
from lossd_server.errors import RETRY_AFTER_S, Overloaded, TooLarge

# Answers from here on are charged beside their requests; a smaller one is held for as long as it takes to be sent.
LARGE_ANSWER_BYTES = 1 << 16


class Admission:
    """Counts bytes and requests in flight, in all and by caller. Every charge is given back by `release` with what it
    stands at."""

    def __init__(
        self, max_bytes: int, max_requests: int, max_message_bytes: int, callers: CallerHoldings | None = None
    ) -> None:
        self.callers = CallerHoldings() if callers is None else callers
        self.max_bytes = max_bytes
        self.max_requests = max_requests
        self.max_message_bytes = max_message_bytes
        self.bytes = 0
        self.requests = 0
        self._reading_bytes = 0  # the part of `bytes` that is charged for bodies of unknown size

    def has_room(self, size: int) -> bool:
        """Whether a request that comes to `size` bytes with its answer would be charged now. One alone always is."""
        return not self.requests or (self.requests < self.max_requests and self.bytes + size <= self.max_bytes)

    def charge(self, size: int, caller: CallerHolding) -> None:
        """Charges a request for which there is room."""
        self.requests += 1
        self.bytes += size
        caller.bytes += size

    def reserve(self, caller: CallerHolding) -> bool:
        """Charges a request of unknown size with the largest message. False: others like it must be read first.

        Raises Overloaded where waiting for them would not help.
        """
        size = self.max_message_bytes
        caller.require(size)
        if self.requests >= self.max_requests or self.bytes - self._reading_bytes + size > self.max_bytes:
            raise self.overloaded(size)
        if self.bytes + size > self.max_bytes:
            return False
        self.charge(size, caller)
        self._reading_bytes += size
        return True

    def settle(self, size: int, caller: CallerHolding) -> None:
        """Trims the charge of a `reserve` to the body's true size."""
        self.bytes -= self.max_message_bytes - size
        caller.bytes -= self.max_message_bytes - size
        self._reading_bytes -= self.max_message_bytes

    def require(self, size: int) -> None:
        """Raises Overloaded where there is no room for `size` bytes more; charges nothing."""
        if self.bytes + size > self.max_bytes:
            raise self.overloaded(size)

    def grow(self, size: int, stands_at: int, caller: CallerHolding) -> None:
        """Charges `size` further bytes for a request that stands at so many; less, where below 0.

        Raises Overloaded, and charges nothing then; not for a request that is alone, or is its caller's only one.
        """
        if size > 0:
            if self.requests > 1:
                self.require(size)
            if caller.bytes > stands_at:
                caller.require(size)
        self.bytes += size
        caller.bytes += size

    def release(self, size: int, caller: CallerHolding) -> None:
        """Gives back a request that stands at `size` bytes."""
        self.requests -= 1
        self.bytes -= size
        caller.bytes -= size
        self.callers.forget(caller)

    def too_large(self, size: int) -> TooLarge:
        return TooLarge(
            f"the message has {size} bytes, this server takes {self.max_message_bytes}",
            reason="MESSAGE_TOO_LARGE",
            metadata={"size_bytes": size, "max_message_bytes": self.max_message_bytes},
        )

    def overloaded(self, size: int) -> Overloaded:
        return Overloaded(
            f"the server is full: it holds {self.requests} requests of {self.bytes} bytes, of at most"
            f" {self.max_requests} and {self.max_bytes}, and this one may have {size}",
            reason="OVERLOADED",
            metadata={
                "size_bytes": size,
                "inflight_requests": self.requests,
                "inflight_bytes": self.bytes,
                "max_inflight_requests": self.max_requests,
                "max_inflight_bytes": self.max_bytes,
            },
            retry_after_s=RETRY_AFTER_S,
        )
