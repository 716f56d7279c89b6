"""Multiplex policy: when small calls of one connection share a stream. A message costs as much as a call. Pure.

A single call goes by itself: a stream takes 2 ms to start, and the server holds it open. Calls that are under way at
once, or follow each other fast, share one, which ends when they do.
"""

from __future__ import annotations

from lossd.fast_path.request_template import Form
from lossd.options import Transport

# Larger tensors would hold up the calls that share their message.
MOST_BYTES = 1 << 15
# Calls one after the other, within WITHIN_S, that are worth a stream.
ENOUGH = 8
WITHIN_S = 1.0
# A stream that carries nothing for so long is closed: a server has room for 256.
IDLE_S = 1.0
# After this another takes its place: a balancer on the way may deal it to another server.
LIFE_S = 30.0
# After a stream that failed: calls go by themselves for so long, and twice as long each time, up to the last.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0


def may_join(call: Form, asked: Transport) -> bool:
    """Whether the call may share a stream. Not one with `out`: an answer that nobody waits for would be written there.

    Its body is below MOST_BYTES, so its answer is below 1 MiB.
    """
    return asked == "auto" and not call.out and call.nbytes <= MOST_BYTES


class MultiplexPolicy:
    """Of one connection. possible: False where a stream would tie calls to one of several servers. Times: seconds."""

    def __init__(self, possible: bool) -> None:
        self._possible = possible
        self._since_s = 0.0
        self._count = 0
        self._until_s = 0.0
        self._pause_s = FIRST_PAUSE_S

    def wants(self, in_flight: int, now_s: float) -> bool:
        """Whether a call that begins now is worth a stream. in_flight: calls under way, this one among them."""
        if now_s - self._since_s > WITHIN_S:
            self._since_s, self._count = now_s, 0
        self._count += 1
        return self._possible and now_s >= self._until_s and (in_flight > 1 or self._count > ENOUGH)

    def ended(self, failed: bool, answered: bool, now_s: float) -> None:
        """The stream is over. answered: whether it had answered anything."""
        if answered:
            self._pause_s = FIRST_PAUSE_S
        if failed:
            self._until_s = now_s + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
