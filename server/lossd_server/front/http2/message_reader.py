"""Message reader: the length-prefixed messages in one stream's DATA, and the window that lets them in.

The first five bytes tell a message's size. The peer may send a first window without being asked; what a message needs
beyond it is let in when somebody is ready to take it, and charged by then.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from lossd_server.call.contract import Body
from lossd_server.front.http2.frames import MOST_WINDOW_BYTES
from lossd_server.front.http2.windows.unclaimed import UnclaimedBytes

PREFIX_BYTES = 5
# Messages from here on are received into memory of their own as soon as they are wanted, and not put together.
OWN_MEMORY_BYTES = 1 << 16
# Parts below this are no objects of their own: a message that comes by the byte would take many times its size.
SMALL_BYTES = 1 << 10
# What a message counts beside its bytes: an object of its own, of which 13,000 empty ones fit a first window.
MESSAGE_COST_BYTES = 48


class MalformedMessage(Exception):
    """What came is no sequence of messages: the call fails, and says why."""


class MessageReader:
    """wanted: somebody waits for the next message. ended: the peer sends no more. silent: no message was taken yet.

    unclaimed: of the connection; counts the stream while it is silent, and what is here of messages, but for those that
    are received into memory of their own, which somebody was charged for.
    """

    __slots__ = (
        "_first_window", "_head", "_left", "_memory", "_parts", "_ready", "_size", "_taken", "_unclaimed",
        "_window", "came", "ended", "silent", "wanted",
    )  # fmt: skip

    def __init__(self, first_window: int, unclaimed: UnclaimedBytes) -> None:
        self._unclaimed = unclaimed
        unclaimed.bytes += unclaimed.stream_bytes
        self.silent = True
        self._first_window = self._window = first_window
        self.wanted = self.ended = False
        # Bytes of messages and their prefixes, from the stream's beginning: that came, and that were taken.
        self.came = self._taken = 0
        self._ready: deque[Body] = deque()
        # The message that is coming in: its prefix, its size once that is whole, what it misses, what is here of it.
        self._head = b""
        self._size = -1
        self._left = 0
        self._parts: list[bytes | bytearray] = []
        self._memory: memoryview | None = None  # all of it, filled as far as it is here

    def receive(self, counted: int) -> bool:
        """Takes note of bytes that flow control counts. False: the peer had no room for them."""
        self._window -= counted
        return self._window >= 0

    def feed(self, data: bytes | memoryview) -> None:
        """Raises MalformedMessage."""
        self.came += len(data)
        at, end = 0, len(data)
        while at < end:
            if self._size < 0:
                taken = bytes(data[at : at + PREFIX_BYTES - len(self._head)])
                self._head += taken
                at += len(taken)
                if len(self._head) < PREFIX_BYTES:
                    return
                if self._head[0]:
                    raise MalformedMessage("a message is compressed, which grpc-encoding did not say")
                self._size = self._left = int.from_bytes(self._head[1:], "big")
            part = data[at : at + self._left]
            at += len(part)
            memory = self.own_memory() if self._size >= OWN_MEMORY_BYTES else None
            if memory is not None:
                memory[: len(part)] = part
            elif self._parts:
                self._unclaimed.bytes += len(part)
                self._keep(part)
            else:
                self._unclaimed.bytes += len(part)
                # Bytes of its own: a view would keep all that was received with it.
                self._parts.append(bytes(part) if len(part) == self._left else bytearray(part))
            self._left -= len(part)
            if not self._left:
                self._finish()

    def _keep(self, part: bytes | memoryview) -> None:
        """A further part; small ones are joined as they come."""
        last = self._parts[-1]
        if len(part) < SMALL_BYTES and isinstance(last, bytearray):
            last += part
        else:
            self._parts.append(bytearray(part))

    def _finish(self) -> None:
        parts, memory = self._parts, self._memory
        if memory is None:
            self._unclaimed.bytes += MESSAGE_COST_BYTES
        self._ready.append(memory or (bytes(parts[0]) if len(parts) == 1 else b"".join(parts)))
        self._parts, self._memory, self._head, self._size = [], None, b"", -1

    def own_memory(self) -> memoryview | None:
        """What is missing of the message that somebody waits for, to be received into; None where it is not large."""
        if not self.wanted or self._ready or self._size < OWN_MEMORY_BYTES:
            return None
        if self._memory is None:
            self._memory = np.empty(self._size, np.uint8).data
            here = b"".join(self._parts)
            self._memory[: len(here)] = here
            self._unclaimed.bytes -= len(here)
            self._parts = []
        return self._memory[self._size - self._left :]

    def fill(self, count: int) -> None:
        """The next `count` bytes of that memory have been received."""
        self.came += count
        self._left -= count
        if not self._left:
            self._finish()

    @property
    def next_size(self) -> int | None:
        """Of the message that is taken next; None while it is not known."""
        if self._ready:
            return len(self._ready[0])
        return self._size if self._size >= 0 else None

    @property
    def has_begun(self) -> bool:
        """Whether anything of its messages has come, or their end."""
        return self.ended or self.came > 0

    @property
    def only(self) -> bytes | None:
        """The small message of a stream that is here whole, and has no other."""
        if not self.ended or self._head or len(self._ready) != 1:
            return None
        message = self._ready[0]
        return message if isinstance(message, bytes) else None

    @property
    def is_cut(self) -> bool:
        """Whether the stream ended in the middle of a message."""
        return self.ended and bool(self._head)

    @property
    def expected(self) -> int:
        """Bytes that are still to come of the message that somebody waits for."""
        return max(0, self._wanted_end - self.came) if self.wanted and not self.ended else 0

    @property
    def room(self) -> int:
        """Bytes that the peer may send now."""
        return self._window

    @property
    def _wanted_end(self) -> int:
        size = self.next_size if self.wanted else None
        return self._taken if size is None else self._taken + PREFIX_BYTES + size

    def take(self) -> Body | None:
        """The next message, if it is whole; nobody waits for another one then."""
        if not self._ready:
            return None
        body = self._ready.popleft()
        if self.silent:
            self.silent = False
            self._unclaimed.bytes -= self._unclaimed.stream_bytes
        if type(body) is bytes:
            self._unclaimed.bytes -= MESSAGE_COST_BYTES + len(body)
        self._taken += len(body) + PREFIX_BYTES
        self.wanted = False
        return body

    @property
    def unclaimed_bytes(self) -> int:
        """What the stream counts for now."""
        size = self._unclaimed.stream_bytes if self.silent else 0
        messages = [MESSAGE_COST_BYTES + len(body) for body in self._ready if type(body) is bytes]
        return size + sum(map(len, self._parts)) + sum(messages)

    def discard(self) -> None:
        """Nobody takes what is here."""
        self._unclaimed.bytes -= self.unclaimed_bytes
        self.silent = False
        self._parts = []
        self._ready.clear()
        self._memory = None

    def grant(self) -> int:
        """The increment that the peer is to be told now, 0 for none: to what is wanted, and a first window beyond."""
        if self.ended:
            return 0
        target = min(self._wanted_end - self.came + self._first_window, MOST_WINDOW_BYTES)
        increment = target - self._window
        enough = self._window >= min(self.expected, self._first_window)
        if increment <= 0 or (2 * increment < self._first_window and enough):
            return 0
        self._window += increment
        return increment
