"""Stream with a call on it: what comes in, and what leaves."""

from __future__ import annotations

from lossd_server.front.http2.message_reader import MessageReader
from lossd_server.front.http2.request_head import RequestHead
from lossd_server.front.http2.send_stream import SendStream


class CallStream:
    """over: its call has ended, its client not yet. came: bytes of DATA so far. length: of all DATA, if announced."""

    __slots__ = ("came", "length", "over", "reader", "sender")

    def __init__(self, stream_id: int, head: RequestHead, first_window: int, send_window: int) -> None:
        self.reader = MessageReader(first_window)
        self.sender = SendStream(stream_id, send_window)
        self.length = head.length
        self.came = 0
        self.over = False
