"""What the fuzzer's bytes stand for on an HTTP/2 connection: frames, given as they are or grown from choices."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.inputs import Taken
from tests.server.front.http2 import wire
from tests.server.front.http2.cutting import ran

CORPUS = Path(__file__).with_name("frames.txt")
BEGUN = (b"", wire.PREFACE, wire.PREFACE + wire.settings(), wire.HANDSHAKE)
PIECES = (1, 2, 7, 10, 40)
BLOCKS = (wire.request(), wire.plain_request(), wire.request()[:40], wire.request()[40:], b"", b"\x20", b"\xbe")
MOST_FRAMES = 12


def grown(taken: Taken) -> bytes:
    """Frames by choices."""
    sent = b""
    for _ in range(taken.below(MOST_FRAMES)):
        stream_id = taken.below(8)
        kind = taken.below(16)
        if kind < 4:
            sent += wire.headers(stream_id, BLOCKS[taken.below(len(BLOCKS))], taken.below(64))
        elif kind < 6:
            sent += wire.continuation(stream_id, BLOCKS[taken.below(len(BLOCKS))], taken.below(8))
        elif kind < 9:
            body = taken.bytes(taken.below(30))
            sent += wire.data(stream_id, wire.message(body) if taken.below(2) else body, bool(taken.below(2)))
        elif kind < 10:
            sent += wire.settings([(taken.below(8), taken.below(256) << 8 * taken.below(4)) for _ in range(2)])
        else:
            sent += wire.frame(taken.below(12), taken.below(256), stream_id, taken.bytes(taken.below(20)))
    return sent


def shown(data: bytes) -> tuple[bytes, int]:
    """What a client sends, and the size of the pieces in which it comes."""
    taken = Taken(data)
    begun = BEGUN[taken.below(len(BEGUN))]
    size = PIECES[taken.below(len(PIECES))]
    return begun + (grown(taken) if taken.below(4) else data[3:]), size


def kept() -> list[bytes]:
    """Inputs that reached code of their own, or that failed: one a line, in hexadecimal digits."""
    return [bytes.fromhex(line) for line in CORPUS.read_text().splitlines()]


def run(data: bytes) -> None:
    """Fails where something is raised, where pieces mean something else, or where something follows GOAWAY."""
    sent, size = shown(data)
    whole = ran([sent])
    frames = whole[1]
    goaways = [index for index, one in enumerate(frames) if one.kind == wire.GOAWAY]

    assert whole == ran(sent[at : at + size] for at in range(0, len(sent), size))
    assert goaways in ([], [len(frames) - 1])
