"""Timeouts of one stream: since when it waits for its client, and for how long it may. Pure: the time is passed in."""

from __future__ import annotations

from math import inf

from lossd_server.errors import RETRY_AFTER_S, DeadlineOver, GoingAway, ServerError

# While others wait for the memory that it holds, a client that holds more than its share has this long for a message,
# and as long again as the message takes at this rate. One that is only slow is faster, one that stands still is not.
CONTENDED_S = 2.0
CONTENDED_BYTES_PER_S = 4 << 20
NOT_READ = "STREAM_NOT_READ"


class StreamTimes:
    """Moments on time.monotonic; +∞ where nothing of the kind is going on.

    lets_in: whether the front lets messages in when they are charged. gRPC's core does not, and neither lets go of a
    call whose client does not read: to end one there gives back its charge and no memory, so it has all of its time.
    """

    __slots__ = (
        "_heard",
        "_message_since",
        "_message_size",
        "_writing_since",
        "_writing_size",
        "lets_in",
        "read_since",
    )

    def __init__(self) -> None:
        self.lets_in = False
        self.read_since = 0.0  # when it was last held up; +∞ while it is
        self._heard = inf  # when it began to wait for a message
        self._message_since = inf  # when the message that is being let in began to come
        self._message_size = 0
        self._writing_since = inf
        self._writing_size = 0

    def listens(self, now: float) -> None:
        """It waits for its client's next message."""
        self._heard = now

    def hears(self) -> None:
        """A message has begun, and the front has told its size: it is not silent."""
        self._heard = inf
        self.lets_in = True

    def receives(self, size: int, now: float) -> None:
        """A message of `size` bytes is being let in."""
        self._message_since, self._message_size = now, size

    def received(self) -> None:
        self._heard = self._message_since = inf

    def writes(self, size: int, now: float) -> None:
        """A message of `size` bytes is handed to the front."""
        self._writing_since, self._writing_size = now, size

    def written(self) -> None:
        self._writing_since = inf

    @property
    def writing(self) -> bool:
        return self._writing_since < inf

    @property
    def silent_since(self) -> float:
        """When its client last had something to do with it, where it is read."""
        return self._heard if self.read_since < inf else inf

    def overdue(self, now: float, idle_s: float, contended: bool) -> ServerError | None:
        """What it is to end with at `now`, if anything. contended: others wait for what it holds beyond its share."""
        contended = contended and self.lets_in
        bound_s = _bound(self._message_size, idle_s, contended)
        if self._message_since + bound_s <= now:
            sentence = f"the message that had begun was not there after {bound_s:g} s{_WAITED * contended}"
            return DeadlineOver(sentence, reason="BODY_TIMEOUT", metadata={"max_stream_idle_s": bound_s})
        bound_s = _bound(self._writing_size, idle_s, contended)
        if self._writing_since + bound_s <= now:
            return DeadlineOver(
                f"the client has not read for {bound_s:g} s{_WAITED * contended}",
                reason=NOT_READ,
                metadata={"max_stream_idle_s": bound_s},
            )
        return None


_WAITED = ", while other connections waited for the memory that this one holds"


def _bound(size: int, idle_s: float, contended: bool) -> float:
    return min(idle_s, CONTENDED_S + size / CONTENDED_BYTES_PER_S) if contended else idle_s


def idle(silent_s: float) -> GoingAway:
    """Streams are few: one that says nothing is ended where another needs its place, and may come again."""
    return GoingAway(
        f"the stream had nothing open for {silent_s:.3g} s, and another needs its place",
        reason="STREAM_IDLE",
        metadata={"silent_s": silent_s},
        retry_after_s=RETRY_AFTER_S,
    )
