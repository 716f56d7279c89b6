"""Interop clients: how each is started, and one that runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import google.rpc.status_pb2
import pytest

from tests.waiting import WAIT_S

ROOT = Path(__file__).parents[2]
HERE, BUILT = ROOT / "tests/interop", ROOT / "build/interop"
RPC_PROTO = Path(google.rpc.status_pb2.__file__).parents[2]  # it ships google/rpc/*.proto


@dataclass(frozen=True)
class InteropClient:
    """A program that takes an address and a case. built: what is there once it can run. unix: it takes `unix:PATH`."""

    name: str
    command: tuple[str, ...]
    built: Path = HERE
    unix: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_built(self) -> bool:
        return self.built.exists()

    def require(self, every: bool) -> None:
        """Skips a test whose client is not built; fails it where every client must be."""
        if not self.is_built:
            (pytest.fail if every else pytest.skip)(f"{self.name}: `make test-interop` did not build it")

    def start(self, address: str, case: str) -> Running:
        return Running([*self.command, address, case], {**os.environ, **self.environment})

    def run(self, address: str, case: str) -> dict[str, Any]:
        with closing(self.start(address, case)) as running:
            return running.answer()


class Running:
    """A client that runs. It is killed once that takes far too long, so that nobody waits for it for ever."""

    def __init__(self, command: list[str], environment: Mapping[str, str]) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed in `close`
        self._child = subprocess.Popen(
            command,
            env=environment,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._killer = threading.Timer(2 * WAIT_S, self._child.kill)
        self._killer.daemon = True
        self._killer.start()

    def until_paused(self) -> None:
        """Waits for the point where the program waits for `go_on`. If it ends instead, `answer` says why."""
        assert self._child.stdout is not None
        self._child.stdout.readline()

    def go_on(self) -> None:
        assert self._child.stdin is not None
        with suppress(BrokenPipeError):  # it has ended
            self._child.stdin.write("\n")
            self._child.stdin.flush()

    def wait(self) -> None:
        self._child.wait()

    def answer(self) -> dict[str, Any]:
        """The line that it prints at its end."""
        said, _ = self._child.communicate()
        self._errors.seek(0)
        assert self._child.returncode == 0, f"exit status {self._child.returncode}: {self._errors.read()}"
        answer: dict[str, Any] = json.loads(said.splitlines()[-1])
        return answer

    def close(self) -> None:
        self._killer.cancel()
        self._child.kill()
        with suppress(ValueError):  # its pipes are closed after `answer`
            self._child.communicate()
        self._errors.close()


def _classpath() -> str:
    file = BUILT / "java/classpath"
    return file.read_text().strip() if file.exists() else ""


_PYTHON = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "client")])}

CLIENTS = (
    InteropClient("python", (sys.executable, "-m", "tests.interop.python.blocking"), environment=_PYTHON),
    InteropClient("python-aio", (sys.executable, "-m", "tests.interop.python.asynchronous"), environment=_PYTHON),
    InteropClient("cpp", (str(BUILT / "cpp/client"),), BUILT / "cpp/built"),
    InteropClient("go", (str(BUILT / "go/client"),), BUILT / "go/built", unix=False),
    InteropClient(
        "java",
        # What it runs is over before it would be compiled well.
        ("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", _classpath(), "Client"),
        BUILT / "java/built",
        unix=False,
    ),
    InteropClient(
        "node",
        ("node", str(HERE / "node/client.js"), str(ROOT / "proto"), str(RPC_PROTO)),
        BUILT / "node/built",
        environment={"NODE_PATH": str(BUILT / "node/node_modules")},
    ),
    InteropClient("ruby", ("ruby", f"-I{BUILT / 'ruby'}", str(HERE / "ruby/client.rb")), BUILT / "ruby/built"),
)
