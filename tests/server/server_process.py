"""`lossd serve` as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import WAIT_S

SOURCES = Path(__file__).parents[2]


def command(*flags: str) -> list[str]:
    return [sys.executable, "-m", "lossd_server", "--device", "cpu", "--threads", "2", *flags]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{SOURCES / 'client'}{os.pathsep}{SOURCES / 'server'}"}


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    """A server that ends by itself."""
    return subprocess.run(
        command(*flags), env=environment(), capture_output=True, text=True, timeout=WAIT_S, check=False
    )


@contextmanager
def process(*flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running server and its address."""
    child = subprocess.Popen(command(*flags), stdout=subprocess.PIPE, text=True, env=environment())
    assert child.stdout is not None
    try:
        line = child.stdout.readline()
        assert line.startswith("listening on ")
        yield child, line.removeprefix("listening on ").strip()
    finally:
        child.kill()
        child.communicate()
