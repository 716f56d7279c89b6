"""Where a connection is cut: a plan drawn from a seed, and the frames of HTTP/2 that tell its moment. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass

PREFACE_BYTES = 24
HEAD_BYTES = 9
DATA, HEADERS = 0, 1
END_STREAM = 1

# By how many connections of a hundred each is drawn; "" passes everything on.
PLAIN_WEIGHTS = {
    "": 40,
    "one byte at a time": 9,
    "cut before preface": 4,
    "cut in preface": 4,
    "cut in headers": 9,
    "cut in body": 9,
    "reset in body": 9,
    "cut before answer": 8,
    "cut in answer": 8,
}
# What is encrypted has no phases that a proxy could see.
TLS_WEIGHTS = {"": 50, "one byte at a time": 10, "cut before preface": 5, "cut somewhere": 35}
# Frames of its kind that pass before the one that is cut: early, and after a connection has been used for a while.
MOST_FRAMES = 60
# Bytes that go one by one, each in a packet: a few milliseconds. All of a large body would take for ever.
ONE_BY_ONE_BYTES = 3000
MOST_BYTES = 3_000_000


@dataclass(frozen=True, slots=True)
class CutPlan:
    """Of one connection. frames: that pass first. part: of the frame, in [0, 1), that still passes. after_bytes: where
    there are no frames. resets: whether the cut is RST, not FIN."""

    kind: str
    frames: int
    part: float
    after_bytes: int
    resets: bool


def drawn(seed: str, encrypted: bool) -> CutPlan:
    """seed: of this connection."""
    rng = random.Random(seed)
    weights = TLS_WEIGHTS if encrypted else PLAIN_WEIGHTS
    kind = rng.choices(list(weights), list(weights.values()))[0]
    frames = int(MOST_FRAMES ** rng.random()) - 1
    after = int(MOST_BYTES ** rng.random())
    return CutPlan(kind, frames, rng.random(), after, kind == "reset in body" or rng.random() < 0.3)


class Cutter:
    """One direction of a connection. upwards: from the client."""

    def __init__(self, plan: CutPlan, upwards: bool) -> None:
        self._plan = plan
        self._skip = PREFACE_BYTES if upwards else 0
        self._head = bytearray()
        self._left = 0  # bytes of the payload under way
        self._seen = 0  # frames of the kind that the plan waits for
        self._end_at: int | None = None  # bytes that still pass
        self._passed = 0
        self._wanted = _wanted(plan.kind, upwards)
        if plan.kind == "cut in preface" and upwards:
            self._end_at = int(plan.part * PREFACE_BYTES)
        elif plan.kind == "cut somewhere" and upwards:
            self._end_at = plan.after_bytes

    def passes(self, data: bytes) -> int:
        """How many of these bytes pass before the cut; all of them where its moment has not come."""
        if self._end_at is None and self._wanted is not None:
            self._walk(data)
        if self._end_at is None:
            self._passed += len(data)
            return len(data)
        count = max(0, min(len(data), self._end_at - self._passed))
        self._passed += count
        return count

    @property
    def is_cut(self) -> bool:
        return self._end_at is not None and self._passed >= self._end_at

    def _walk(self, data: bytes) -> None:
        at = 0
        while at < len(data) and self._end_at is None:
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
            elif self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
            else:
                step = min(HEAD_BYTES - len(self._head), len(data) - at)
                self._head += data[at : at + step]
                if len(self._head) == HEAD_BYTES:
                    self._frame(self._passed + at + step)
            at += step

    def _frame(self, payload_at: int) -> None:
        """A frame whose payload begins there, in bytes of this direction."""
        size, kind, flags = int.from_bytes(self._head[:3], "big"), self._head[3], self._head[4]
        self._head.clear()
        self._left = size
        wanted = self._wanted
        if wanted is None or kind not in wanted or (self._plan.kind == "cut before answer" and not flags & END_STREAM):
            return
        self._seen += 1
        if self._seen > self._plan.frames:
            part = 1.0 if self._plan.kind == "cut before answer" else self._plan.part
            self._end_at = payload_at + int(part * size)


def _wanted(kind: str, upwards: bool) -> tuple[int, ...] | None:
    """Kinds of frames, one of which is the moment."""
    if upwards:
        return {
            "cut in headers": (HEADERS,),
            "cut in body": (DATA,),
            "reset in body": (DATA,),
            "cut before answer": (DATA,),
        }.get(kind)
    return (HEADERS, DATA) if kind == "cut in answer" else None
