"""Stream with a call on it: what comes in, and what leaves."""

from __future__ import annotations

from lossd_server.front.http2.frames import ErrorCode, StreamFault
from lossd_server.front.http2.headers.request_head import RequestHead
from lossd_server.front.http2.message_reader import MessageReader
from lossd_server.front.http2.send_stream import SendStream


class CallStream:
    """over: its call has ended, its client not yet."""

    __slots__ = ("_came", "_length", "over", "reader", "sender")

    def __init__(self, stream_id: int, head: RequestHead, first_window: int, send_window: int) -> None:
        self.reader = MessageReader(first_window)
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
