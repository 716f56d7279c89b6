"""Stream with a call on it: what comes in, and what leaves."""

from __future__ import annotations

from collections.abc import Mapping

from lossd_server.front.http2.frames import ErrorCode, StreamFault
from lossd_server.front.http2.headers.request_head import RequestHead
from lossd_server.front.http2.message_reader import MessageReader
from lossd_server.front.http2.send_stream import SendStream
from lossd_server.front.http2.windows.unclaimed import UnclaimedBytes


class CallStream:
    """over: its call has ended, its client not yet."""

    __slots__ = ("_came", "_length", "over", "reader", "sender")

    def __init__(
        self, stream_id: int, head: RequestHead, first_window: int, send_window: int, unclaimed: UnclaimedBytes
    ) -> None:
        self.reader = MessageReader(first_window, unclaimed)
        self.sender = SendStream(stream_id, send_window)
        self.over = False
        self._length = head.length
        self._came = 0  # bytes of DATA

    def count(self, size: int, ends: bool) -> None:
        """Takes note of so much DATA. Raises StreamFault where it is not what content-length announced."""
        self._came += size
        length = self._length
        if length is not None and (self._came > length or (ends and self._came != length)):
            raise StreamFault(self.sender.stream_id, ErrorCode.PROTOCOL_ERROR, "content-length is not what came")


def to_shed(streams: Mapping[int, CallStream], excess: int) -> list[tuple[int, ErrorCode]]:
    """Streams that have to end so that `excess` bytes less are unclaimed, the oldest first; and what each is told."""
    found = []
    for stream_id, stream in streams.items():
        if excess <= 0:
            break
        size = stream.reader.unclaimed_bytes
        if size:
            excess -= size
            # A client may repeat what was refused: nothing was done for it.
            code = ErrorCode.REFUSED_STREAM if stream.reader.silent else ErrorCode.ENHANCE_YOUR_CALM
            found.append((stream_id, code))
    return found
