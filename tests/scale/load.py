"""Load on several servers, by a client in a process of its own: what was answered, wrongly, or not at all."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.server.server_process import environment

HERE = Path(__file__).parent


class Outcome(NamedTuple):
    answered: int
    wrong: int
    failed: int
    said: str


class Load:
    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child

    def end(self) -> Outcome:
        """Has no further calls made; what came of those before."""
        said, _ = self._child.communicate("\n")
        *others, last = said.strip().splitlines()
        answered, wrong, failed = map(int, last.split())
        return Outcome(answered, wrong, failed, "\n".join(others[:10]))


@contextmanager
def load(arguments: list[str]) -> Iterator[Load]:
    """Under way once it has said so."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    child = subprocess.Popen(arguments, **pipes, text=True, env=environment(), cwd=HERE)  # type: ignore[call-overload]
    try:
        assert child.stdout.readline() == "begun\n"
        yield Load(child)
    finally:
        child.kill()
        child.communicate()


def python_load(address: str, way: str, *flags: str) -> list[str]:
    """way: as `load_of_python` has it."""
    return [sys.executable, str(HERE / "load_of_python.py"), address, way, *flags]
