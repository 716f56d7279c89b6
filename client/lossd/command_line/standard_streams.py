"""Standard streams of a command: present, in any encoding, and quiet when whoever reads them has seen enough."""

from __future__ import annotations

import codecs
import io
import os
import sys

# What a shell says of a program that SIGPIPE ended; Python ignores that signal and raises BrokenPipeError.
BROKEN_PIPE = 128 + 13
# Of what our texts have beside ASCII.
_PLAIN = {"…": "...", "−": "-", "–": "-", "×": "x", "·": "*", "Σ": "sum of "}
_PLAINER = "lossd-plainer"


def make_safe() -> None:
    """Opens what was closed, and lets streams of a narrow encoding say in plainer characters what they lack."""
    codecs.register_error(_PLAINER, _plainer)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:  # closed; the lowest free number is its own, which else a socket would take
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # for the process's life
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_PLAINER)


def flush() -> None:
    """Raises OSError where a stream cannot be written: Python would only say so at its end, and not as we do."""
    sys.stdout.flush()
    sys.stderr.flush()


def discard_unwritten() -> None:
    """After an OSError: sends what a stream still holds to /dev/null, so that the process's end does not fail."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)


def _plainer(error: UnicodeError) -> tuple[str, int]:
    """The error handler of `codecs`: a character that the encoding lacks, in ASCII."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(one) or one.encode("ascii", "backslashreplace").decode() for one in lacking), error.end
