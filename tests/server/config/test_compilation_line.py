"""The line that tells of a compilation: rewritten in place on a terminal, once elsewhere, in any state of stderr."""

from __future__ import annotations

import io
import sys

import pytest

from lossd_server.config.compilation_line import CompilationLine, print_error


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_in_place_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line takes the place of the one before it; what comes after has a line of its own."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    with CompilationLine(print_error) as line:
        for step in range(3):
            line(f"compiling [{step}/3]")
        line("compiling [3/3] " + "x" * 100)

    *rows, last = terminal.getvalue().split("\r")[1:]
    assert rows == [f"compiling [{step}/3]\x1b[K" for step in range(3)]
    assert last.startswith("compiling [3/3] xxx")
    assert last.endswith("…\x1b[K\n")
    assert len(last) < 40 + len("\x1b[K\n")


def test_once_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    """A log has one line, whatever follows."""
    with CompilationLine(print_error) as line:
        for step in range(3):
            line(f"compiling [{step}/3]")

    assert capsys.readouterr().err == "compiling [0/3]\n"


def test_silent_where_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even an empty line."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with CompilationLine(print_error):
        pass

    assert terminal.getvalue() == ""


@pytest.mark.parametrize("gone", [None, "closed"])
def test_without_standard_error(monkeypatch: pytest.MonkeyPatch, gone: str | None) -> None:
    """A process without standard error compiles all the same."""
    stream = Terminal()
    stream.close()
    monkeypatch.setattr(sys, "stderr", None if gone is None else stream)
    with CompilationLine(print_error) as line:
        line("compiling [1/3]")
