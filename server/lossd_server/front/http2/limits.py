"""Bounds of one HTTP/2 connection, each with its reason. The bound of all connections together is the byte budget."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Http2Limits:
    """Bytes, counts, and seconds where the name ends in `_s`."""

    # A header list beyond this is nobody's that calls a loss: ours has 400 bytes, a trace and a token 2 KiB.
    header_list_bytes: int = 8 << 10
    # As fields too: a table entry that is referred to by one byte each time is small on the wire.
    header_fields: int = 64
    # What HEADERS and its CONTINUATIONs may have together before they are decoded. None is longer encoded than plain.
    header_block_bytes: int = 32 << 10
    # Streams at once. grpc.aio's front has the same.
    concurrent_streams: int = 1024
    # A request below this needs no WINDOW_UPDATE. RFC 9113's own first window, so that it is right before SETTINGS are
    # acknowledged.
    initial_window_bytes: int = (1 << 16) - 1
    # The same of all streams of a connection together, beside what is expected of messages.
    connection_window_bytes: int = 1 << 18
    # What came on all connections and no call was charged for: first windows of streams that nobody reads yet, header
    # blocks that are not whole. Beside the byte budget, and half of what the server may need beyond that.
    unclaimed_bytes: int = 32 << 20
    # A stream counts as so much of it until its first message is taken: what its call takes here, measured.
    silent_stream_bytes: int = 8 << 10
    # DATA frames up to this: the larger, the fewer heads to read between two pieces of a tensor.
    frame_bytes: int = 1 << 20
    # For the next piece of an answer to be taken: until then what it is charged with is held. `--max-body-s` sets it.
    answer_timeout_s: float = 20.0
    # For the acknowledgement of our SETTINGS: without it we would have to go on believing in the defaults.
    settings_timeout_s: float = 10.0
    # Keepalive: a PING after so long without a byte, and the connection's end so long after that.
    keepalive_s: float = 60.0
    keepalive_timeout_s: float = 20.0
    # For a connection without a call, though it answers PINGs; and for any, where it is not 0 (connection_clock). The
    # settings of these names set them.
    connection_idle_s: float = 900.0
    connection_age_s: float = 0.0
    # For a call on a connection that has ended to go on without a byte in either direction. `--max-deadline-s` sets it:
    # nothing is computed for longer.
    age_grace_s: float = 300.0
    # What the transport holds of a connection before it is told no more: what it is charged with stays charged beyond.
    unsent_bytes: int = 1 << 16
    # Frames beside those, such as answers to PINGs, of a client that takes nothing and goes on asking.
    unread_bytes: int = 1 << 16
    # Each of these is a bucket: `burst` at once, and `each second` from then on. An honest client stays far below:
    # resets come with cancelled calls, all of a connection's at once where they have one deadline; SETTINGS once; PINGs
    # to hear whether we live, beside those that DATA frames are free to bring (control_frames).
    resets: tuple[float, float] = (1200.0, 100.0)
    settings_frames: tuple[float, float] = (20.0, 1.0)
    pings: tuple[float, float] = (200.0, 50.0)
    empty_frames: tuple[float, float] = (200.0, 50.0)
    window_updates: tuple[float, float] = (20_000.0, 10_000.0)
    # PRIORITY, GOAWAY, and frames of extensions.
    other_frames: tuple[float, float] = (500.0, 100.0)
