"""Header assembly: HEADERS and the CONTINUATIONs behind them make one header block (RFC 9113, 6.2 and 6.10)."""

from __future__ import annotations

from typing import NamedTuple

from lossd_server.front.http2 import frames
from lossd_server.front.http2.frame_reader import Frame
from lossd_server.front.http2.frames import ConnectionFault, ErrorCode

# What each frame of a block counts beside its bytes, so that empty ones do not go on for ever.
FRAME_COST_BYTES = 64


class HeaderBlock(NamedTuple):
    """ends: END_STREAM came with it. on_itself: the stream is said to depend on itself."""

    stream_id: int
    ends: bool
    block: bytes
    on_itself: bool = False


class HeaderAssembly:
    """most_bytes: of a block, encoded."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._begun: HeaderBlock | None = None  # its first part
        self._parts: list[bytes] = []

    @property
    def kept_bytes(self) -> int:
        """Of a block that is not whole."""
        return sum(map(len, self._parts)) if self._begun is not None else 0

    def check(self, frame: Frame) -> None:
        """Raises ConnectionFault for a frame that may not come now: nothing comes in between the parts of a block."""
        begun = self._begun
        if begun is None:
            if frame.kind == frames.CONTINUATION:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of nothing")
        elif frame.kind != frames.CONTINUATION or frame.stream_id != begun.stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a header block is interrupted")

    def begin(self, frame: Frame) -> HeaderBlock | None:
        """HEADERS: the block, where it is whole. Raises ConnectionFault."""
        stream_id, flags, payload = frame.stream_id, frame.flags, bytes(frame.payload)
        if not stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on stream 0")
        if flags & frames.PADDED:
            if not payload or payload[0] >= len(payload):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame has more padding than bytes")
            payload = payload[1 : len(payload) - payload[0]]
        on_itself = False
        if flags & frames.HAS_PRIORITY:
            if len(payload) < 5:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS are too short")
            on_itself = int.from_bytes(payload[:4], "big") & frames.MOST_STREAM_ID == stream_id
            payload = payload[5:]
        block = HeaderBlock(stream_id, bool(flags & frames.END_STREAM), payload, on_itself)
        if flags & frames.END_HEADERS:
            return block
        self._begun, self._parts = block, [payload]
        self._check_size()
        return None

    def go_on(self, frame: Frame) -> HeaderBlock | None:
        """CONTINUATION: the block, where it is whole now. Raises ConnectionFault."""
        assert self._begun is not None
        self._parts.append(bytes(frame.payload))
        self._check_size()
        if not frame.flags & frames.END_HEADERS:
            return None
        block, self._begun = self._begun._replace(block=b"".join(self._parts)), None
        self._parts = []
        return block

    def _check_size(self) -> None:
        if sum(map(len, self._parts)) + FRAME_COST_BYTES * len(self._parts) > self._most_bytes:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block is too large")
