"""Stream identifiers (RFC 9113, 5.1): which streams a peer has opened, and what may still come on closed ones."""

from __future__ import annotations

from collections import OrderedDict, deque

from lossd_server.front.http2.frames import ConnectionFault, ErrorCode, StreamFault

# Streams that were reset, by us or by the peer, and gaps that the peer left: that many are remembered.
MOST_RESET, MOST_GAPS = 1024, 64
# Streams that were answered before their client had sent all: so many are left to their client to end.
MOST_ANSWERED = 64


class StreamNumbers:
    """last: the newest stream that the peer has opened."""

    def __init__(self) -> None:
        self.last = 0
        self._next = 1  # what the peer opens next, if it leaves no gap
        self._reset: OrderedDict[int, None] = OrderedDict()  # by us: frames may still be under way
        self._cancelled: OrderedDict[int, None] = OrderedDict()  # by the peer
        self._gaps: deque[range] = deque(maxlen=MOST_GAPS)
        self._answered: deque[int] = deque()

    def opens(self, stream_id: int) -> bool:
        """Whether HEADERS open it. Raises ConnectionFault for a number that the peer cannot use, or not any more."""
        if not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client's streams have odd numbers")
        if stream_id <= self.last:
            if any(stream_id in gap for gap in self._gaps):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a stream is opened after one with a larger number")
            return False
        if stream_id > self._next:
            self._gaps.append(range(self._next, stream_id, 2))
        self.last, self._next = stream_id, stream_id + 2
        return True

    def check_opened(self, stream_id: int) -> None:
        """Raises ConnectionFault for a stream that is idle: only HEADERS and PRIORITY may name one."""
        if not stream_id & 1 or stream_id > self.last:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame on a stream that was never opened")

    def check_late(self, stream_id: int, last: bool) -> None:
        """DATA or HEADERS came on a stream without a call: passed over where we reset it. last: nothing may follow.

        Raises StreamFault where the peer did: netty sends a piece of a message after the reset of its call, and the
        connection's other calls are not to end for it. ConnectionFault elsewhere.
        """
        self.check_opened(stream_id)
        if stream_id in self._cancelled:
            raise StreamFault(stream_id, ErrorCode.STREAM_CLOSED, "a frame on a stream that its client has reset")
        if stream_id not in self._reset:
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, "a frame on a stream that is closed")
        if last:
            del self._reset[stream_id]

    def answered(self, stream_id: int) -> int:
        """It was answered before its client had sent all. The stream to reset now if it is still open; 0: none.

        Not every client of gRPC ends such a stream: some neither send the rest nor reset it.
        """
        self._answered.append(stream_id)
        return self._answered.popleft() if len(self._answered) > MOST_ANSWERED else 0

    def is_reset_by_us(self, stream_id: int) -> bool:
        return stream_id in self._reset

    def is_reset_by_peer(self, stream_id: int) -> bool:
        return stream_id in self._cancelled

    def reset_by_us(self, stream_id: int) -> None:
        self._cancelled.pop(stream_id, None)
        self._reset[stream_id] = None
        if len(self._reset) > MOST_RESET:
            self._reset.popitem(last=False)

    def reset_by_peer(self, stream_id: int) -> None:
        self._reset.pop(stream_id, None)
        self._cancelled[stream_id] = None
        if len(self._cancelled) > MOST_RESET:
            self._cancelled.popitem(last=False)
