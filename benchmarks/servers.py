"""Servers under load, each a process of its own on a free port of this machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LISTENING = "listening on "
LOSSD = [sys.executable, "-m", "lossd_server", "--listen", "127.0.0.1:0"]


def echo(answer_bytes: int) -> list[str]:
    return [sys.executable, str(Path(__file__).with_name("echo_server.py")), str(answer_bytes)]


@contextmanager
def running(command: list[str]) -> Iterator[str]:
    """The address of a server, from the moment it is ready until the block ends."""
    # Its log goes to this program's stderr: a pipe that nobody reads would block it in the end.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = next((line for line in process.stdout if line.startswith(LISTENING)), "")
        if not address:
            raise RuntimeError(f"{' '.join(command)} ended with exit code {process.wait()}")
        yield address.removeprefix(LISTENING).strip()
    finally:
        process.terminate()
        try:
            process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            process.kill()
