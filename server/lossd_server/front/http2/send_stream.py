"""Sending side of one stream: messages that wait for the peer's window, cut into frames."""

from __future__ import annotations

from collections import deque

from lossd_server.front.http2 import frames

Part = bytes | memoryview


class SendStream:
    """window: what the peer takes now; it may be below 0. begun: its head was sent. queued: bytes that wait.

    trailers: the block that ends it, None before that is known.
    """

    __slots__ = ("_begun_left", "_messages", "begun", "queued", "stream_id", "trailers", "window")

    def __init__(self, stream_id: int, window: int) -> None:
        self.stream_id = stream_id
        self.window = window
        self.begun = False
        self.queued = 0
        self.trailers: bytes | None = None
        self._messages: deque[list[Part]] = deque()
        self._begun_left = 0  # of the first message, where a part of it was sent

    def queue(self, *parts: Part) -> None:
        """A message, or what else is sent whole or not at all."""
        message = [part for part in parts if part]
        if message:
            self._messages.append(message)
            self.queued += sum(map(len, message))

    def drop_unsent(self) -> bool:
        """Forgets what waits. False where a message was sent in part: it cannot be ended in order any more."""
        self._messages.clear()
        self.queued = 0
        return not self._begun_left

    def next_frame(self, most: int) -> list[Part]:
        """A DATA frame of at most `most` bytes of what waits: its head, and the parts themselves."""
        size = min(most, self.window, self.queued)
        frame: list[Part] = [frames.frame_head(size, frames.DATA, 0, self.stream_id)]
        left = size
        while left:
            message = self._messages[0]
            part = message[0]
            if len(part) > left:
                view = memoryview(part)
                message[0], part = view[left:], view[:left]
            else:
                del message[0]
            frame.append(part)
            left -= len(part)
            self._begun_left = sum(map(len, message))
            if not message:
                self._messages.popleft()
        self.window -= size
        self.queued -= size
        return frame
