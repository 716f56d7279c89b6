"""Progress line of a compilation, on standard error: rewritten in place on a terminal, written once elsewhere."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from contextlib import suppress

_CLEAR = "\x1b[K"  # what is left of a longer line


class CompilationLine:
    """Called with the line as it is now; a context manager, at whose end what is written next has a line of its own.

    once: writes the first line where there is no terminal, or is not to be `in_place`.
    """

    def __init__(self, once: Callable[[str], None], in_place: bool = True) -> None:
        self._once = once
        self._begun = False
        self._in_place = in_place and _is_terminal()

    def __call__(self, line: str) -> None:
        if self._in_place:
            _write(f"\r{_shortened(line)}{_CLEAR}")
        elif not self._begun:
            self._once(line)
        self._begun = True

    def __enter__(self) -> CompilationLine:
        return self

    def __exit__(self, *_: object) -> None:
        if self._begun and self._in_place:
            _write("\n")
        self._begun = False


def print_error(line: str) -> None:
    """To sys.stderr, which a notebook shows."""
    with suppress(OSError, ValueError, AttributeError):  # closed, or none at all
        print(line, file=sys.stderr, flush=True)


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # closed, or none at all
        return False


def _write(text: str) -> None:
    with suppress(OSError, ValueError):  # the terminal has gone
        sys.stderr.write(text)
        sys.stderr.flush()


def _shortened(line: str) -> str:
    """In one row of the terminal: a longer line could not be rewritten."""
    columns = shutil.get_terminal_size().columns - 1
    return line if len(line) <= columns else f"{line[: max(1, columns - 1)]}…"
