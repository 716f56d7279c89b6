"""Connection clock: when a connection is asked whether it is still there, and when it ends. Pure: the time is given.

A connection that has had no call for long, or is old, ends in two steps (RFC 9113, 6.8): the end is announced, so that
calls on their way are still taken; then no more are, and it is closed once those under way have ended by themselves.
"""

from __future__ import annotations

from enum import Enum, auto
from math import inf

from lossd_server.front.http2.limits import Http2Limits

# For a client to hear that the connection will end, before it takes no more calls: a round trip.
ANNOUNCE_S = 0.5
# An age differs by so much of it from connection to connection: those that were opened together do not end together.
JITTER = 0.1


class Due(Enum):
    NOTHING = auto()
    PING = auto()
    SETTINGS_TIMEOUT = auto()
    LOST = auto()  # it does not answer
    ANNOUNCE = auto()  # that it will end
    LAST = auto()  # no further calls
    CLOSE = auto()


class ConnectionClock:
    """came_s: when the last byte came. called_s: when the last call did. known: the client has read the announcement.

    luck: from 0 to 1, another for each connection.
    """

    def __init__(self, limits: Http2Limits, now_s: float, luck: float) -> None:
        self._limits = limits
        self._opened_s = self.came_s = self.called_s = now_s
        self._pinged_s = -inf
        age_s = limits.connection_age_s
        self._old_s = now_s + age_s * (1 - JITTER + 2 * JITTER * luck) if age_s else inf
        self._announced_s = inf
        self.known = self.is_last = False

    def due(self, now_s: float, acknowledged: bool, calls: int) -> Due:
        """What is to be done now. acknowledged: our SETTINGS were. calls: under way."""
        limits = self._limits
        if not acknowledged and self._opened_s + limits.settings_timeout_s <= now_s:
            return Due.SETTINGS_TIMEOUT
        if self.came_s + limits.keepalive_s <= now_s:
            if self._pinged_s < self.came_s:
                self._pinged_s = now_s
                return Due.PING
            if self._pinged_s + limits.keepalive_timeout_s <= now_s:
                return Due.LOST
        if calls:
            self.called_s = now_s
        return self._end(now_s, calls)

    def _end(self, now_s: float, calls: int) -> Due:
        if self.is_last:
            return Due.NOTHING if calls else Due.CLOSE
        if self._announced_s < inf:
            if not self.known and now_s < self._announced_s + ANNOUNCE_S:
                return Due.NOTHING
            self.is_last = True
            return Due.LAST
        if self._old_s <= now_s or self.called_s + self._limits.connection_idle_s <= now_s:
            self._announced_s = now_s
            return Due.ANNOUNCE
        return Due.NOTHING
