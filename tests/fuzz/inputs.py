"""What the fuzzer's bytes stand for: a message's type, a bound, and a body, given as it is or grown from choices."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.agreement import agree
from tests.fuzz.bodies import DESCRIPTORS, message

NAMES = sorted(DESCRIPTORS)
BOUNDS = (1, 8, 32, 64)
CORPUS = Path(__file__).with_name("corpus.txt")


class Taken:
    """Choices from bytes, first to last; zeros when they are used up."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def below(self, bound: int) -> int:
        self._at += 1
        return self._data[self._at - 1] % bound if self._at <= len(self._data) else 0

    def bytes(self, length: int) -> bytes:
        self._at += length
        return self._data[self._at - length : self._at]


def shown(data: bytes) -> tuple[str, int, bytes]:
    """The message's type, the bound from which elements are cut, the body."""
    taken = Taken(data)
    name = NAMES[taken.below(len(NAMES))]
    least = BOUNDS[taken.below(len(BOUNDS))]
    body = message(taken, DESCRIPTORS[name]) if taken.below(2) else data[3:]
    return name, least, body


def kept() -> list[bytes]:
    """Inputs that once reached code of their own, or that failed: one a line, in hexadecimal digits."""
    return [bytes.fromhex(line) for line in CORPUS.read_text().splitlines()]


def run(data: bytes) -> None:
    """Fails where the cut and the generated class differ."""
    name, least, body = shown(data)
    agree(DESCRIPTORS[name], body, least)
