"""Frame reader: bytes, cut anywhere, to frames. DATA is handed on as it comes, everything else once it is whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lossd_server.front.http2 import frames
from lossd_server.front.http2.frames import ConnectionFault, ErrorCode

# Data above this is handed on as a view of what was received, below as bytes of its own.
VIEW_BYTES = 4096


class Frame(NamedTuple):
    """A frame, or a part of a DATA frame.

    counted: bytes that flow control counts: of DATA, its padding among them. whole: False for a part with more to come;
    its flags are the frame's, so END_STREAM holds with the last part alone. empty: DATA without a byte but padding.
    """

    kind: int
    flags: int
    stream_id: int
    payload: bytes | memoryview
    counted: int = 0
    whole: bool = True
    empty: bool = False


class Preface:
    """What a client sends before its frames (section 3.4)."""

    def __init__(self) -> None:
        self.is_here = False
        self._here = b""

    def take(self, data: bytes) -> bytes:
        """What comes behind the preface. Raises ConnectionFault."""
        here = self._here + data
        size = len(frames.PREFACE)
        if not frames.PREFACE.startswith(here[:size]):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the connection does not begin as HTTP/2 does")
        self.is_here = len(here) >= size
        self._here = b"" if self.is_here else here
        return here[size:]


class FrameReader:
    """most_bytes: the greatest frame that we announced. most_whole_bytes: the greatest that is kept until it is whole.

    data_left, stream_id: of the DATA frame that has begun.
    """

    def __init__(self, most_bytes: int, most_whole_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._most_whole_bytes = most_whole_bytes
        self._rest = b""
        # Of a DATA frame that has begun: what its data and its padding still miss.
        self._in_data = self._empty = False
        self._flags = self.stream_id = 0
        self.data_left = 0
        self._padding_left = 0
        self._uncounted = 0
        self._skip_left = 0  # of an unknown frame, which is passed over

    @property
    def kept_bytes(self) -> int:
        """Of a frame that is not whole."""
        return len(self._rest)

    def direct(self, count: int) -> Frame:
        """The part that are `count` bytes of `data_left`, which somebody received elsewhere: without a payload."""
        return self._part(b"", count, 0)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames, and parts of DATA, that are there with `data`. Raises ConnectionFault."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        at, end = 0, len(data)
        while at < end or self._in_data:
            if self._in_data:
                stop = at + min(self.data_left, end - at)
                skipped = min(self._padding_left, end - stop) if stop - at == self.data_left else 0
                if stop + skipped == at and self.data_left + self._padding_left:
                    return
                yield self._part(_piece(data, at, stop), stop - at, skipped)
                at = stop + skipped
                continue
            if self._skip_left:
                skipped = min(self._skip_left, end - at)
                self._skip_left -= skipped
                at += skipped
                continue
            start = at + frames.HEADER_BYTES
            if end < start:
                break
            size = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            kind, flags = data[at + 3], data[at + 4]
            stream_id = int.from_bytes(data[at + 5 : start], "big") & frames.MOST_STREAM_ID
            if size > self._most_bytes:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame is larger than announced")
            if kind == frames.DATA:
                if flags & frames.PADDED and size and end == start:
                    break  # how much padding is told by the next byte
                at = self._begin(flags, stream_id, size, data, start)
            elif size > self._most_whole_bytes:
                if kind <= frames.CONTINUATION:
                    raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a frame other than DATA is too large")
                yield Frame(kind, flags, stream_id, b"")
                self._skip_left, at = size, start
            elif end - start < size:
                break
            else:
                at = start + size
                yield Frame(kind, flags, stream_id, data[start:at])
        self._rest = data[at:]

    def _begin(self, flags: int, stream_id: int, size: int, data: bytes, start: int) -> int:
        """A DATA frame begins; where its data does."""
        padded = flags & frames.PADDED
        padding = 0
        if padded:
            if not size:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a padded frame is empty")
            padding = data[start]
            if padding >= size:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame has more padding than bytes")
        self._in_data = True
        self._flags, self.stream_id = flags, stream_id
        self._uncounted = 1 if padded else 0
        self.data_left = size - self._uncounted - padding
        self._empty = not self.data_left
        self._padding_left = padding
        return start + self._uncounted

    def _part(self, payload: bytes | memoryview, taken: int, skipped: int) -> Frame:
        self.data_left -= taken
        self._padding_left -= skipped
        counted, self._uncounted = taken + skipped + self._uncounted, 0
        whole = not self.data_left and not self._padding_left
        self._in_data = not whole
        return Frame(frames.DATA, self._flags, self.stream_id, payload, counted, whole, self._empty)


def _piece(data: bytes, start: int, stop: int) -> bytes | memoryview:
    return data[start:stop] if stop - start <= VIEW_BYTES else memoryview(data)[start:stop]
