"""The chaos proxy's cuts: in the phase that was drawn, at the byte that was drawn, however the bytes arrive."""

from __future__ import annotations

import pytest
from chaos.cutting import DATA, END_STREAM, HEADERS, PREFACE_BYTES, CutPlan, Cutter, drawn

SETTINGS = 4


def frame(kind: int, size: int, flags: int = 0) -> bytes:
    return size.to_bytes(3, "big") + bytes([kind, flags]) + (1).to_bytes(4, "big") + bytes(size)


def passed(plan: CutPlan, upwards: bool, data: bytes, piece: int) -> int:
    """Bytes that pass where they arrive in pieces of that size."""
    cutter, count = Cutter(plan, upwards), 0
    for at in range(0, len(data), piece):
        part = data[at : at + piece]
        count += cutter.passes(part)
        if cutter.is_cut:
            break
    return count


UP = bytes(PREFACE_BYTES) + frame(SETTINGS, 6) + frame(HEADERS, 40) + frame(DATA, 100) + frame(DATA, 50, END_STREAM)
HEADERS_AT = PREFACE_BYTES + 15 + 9
DATA_AT = HEADERS_AT + 40 + 9
DOWN = frame(SETTINGS, 0) + frame(HEADERS, 20) + frame(DATA, 80)


@pytest.mark.parametrize("piece", [1, 7, 1000])
@pytest.mark.parametrize(
    "kind, frames, upwards, expected",
    [
        ("cut in preface", 0, True, PREFACE_BYTES // 2),
        ("cut in headers", 0, True, HEADERS_AT + 20),
        ("cut in body", 0, True, DATA_AT + 50),
        ("reset in body", 1, True, DATA_AT + 100 + 9 + 25),
        ("cut before answer", 0, True, len(UP)),
        ("cut in answer", 1, False, 9 + 29 + 9 + 40),
        ("cut in body", 2, True, len(UP)),  # there is no third frame: all passes
        ("", 0, True, len(UP)),
    ],
)
def test_where_a_connection_is_cut(kind: str, frames: int, upwards: bool, expected: int, piece: int) -> None:
    """Half of the frame that was drawn passes, and nothing behind it."""
    plan = CutPlan(kind, frames, 0.5, 0, False)

    assert passed(plan, upwards, UP if upwards else DOWN, piece) == expected


def test_the_same_seed() -> None:
    """A connection's plan is that of its seed; encrypted ones have no phase."""
    plans = [drawn(f"7 plain {number}", False) for number in range(300)]

    assert plans == [drawn(f"7 plain {number}", False) for number in range(300)]
    assert {"cut in headers", "cut in body", "reset in body", "cut in answer"} <= {one.kind for one in plans}
    assert {drawn(f"7 tls {number}", True).kind for number in range(300)} == {
        "",
        "one byte at a time",
        "cut before preface",
        "cut somewhere",
    }
