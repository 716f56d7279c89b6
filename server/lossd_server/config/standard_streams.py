"""The process's standard streams, made safe: present, and never the reason that a server ends."""

from __future__ import annotations

import os
import select
from collections.abc import Iterable
from contextlib import suppress

# For a reader who is slow; one who has stopped reading costs no more than this.
WRITABLE_MS = 1000


def ensure_open() -> None:
    """Opens /dev/null in the place of standard streams that were closed: else a socket takes their number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free


def say(*lines: str) -> None:
    """Prints to standard output; a reader who is gone or does not read, or a disk that is full, stops nothing."""
    _write(1, lines)


def complain(line: str) -> None:
    """The same to standard error."""
    _write(2, (line,))


def _write(file: int, lines: Iterable[str]) -> None:
    data = "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")
    poll = select.poll()
    poll.register(file, select.POLLOUT)
    with suppress(OSError):
        while data and poll.poll(WRITABLE_MS):
            data = data[os.write(file, data[: select.PIPE_BUF]) :]  # so much a pipe takes without waiting
