"""A cluster of Ray with lossd's application, in the environment that has Ray; clients are here, where it is not."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from urllib.request import urlopen

import pytest

from tests.server.server_process import environment

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("RAY_PYTHON", ROOT / ".venv/ray/bin/python"))
PROGRAM = Path(__file__).with_name("cluster.py")


def interpreter() -> str:
    """That has Ray."""
    if not PYTHON.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{PYTHON} is missing: make .venv/ray/made")
        pytest.skip("Ray is not installed: make .venv/ray/made")
    return str(PYTHON)


class Cluster:
    def __init__(self, child: subprocess.Popen[str], port: int) -> None:
        self._child = child
        self._port = port
        self.address = f"ray://127.0.0.1:{port}"

    def tell(self, command: str) -> Any:
        """Of `cluster.py`; its answer."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(f"{command}\n")
        self._child.stdin.flush()
        return json.loads(self._child.stdout.readline())

    def servers(self) -> list[str]:
        with urlopen(f"http://127.0.0.1:{self._port}/", timeout=30) as answer:
            found: list[str] = json.load(answer)["servers"]
        return found


@contextmanager
def cluster(**arguments: Any) -> Iterator[Cluster]:
    """Once it serves. arguments: of the application."""
    python = interpreter()
    with socket.socket() as picked:
        picked.bind(("127.0.0.1", 0))
        port = picked.getsockname()[1]
    command = [python, str(PROGRAM), str(port), json.dumps(arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with TemporaryFile("w+") as errors:
        pipes["stderr"] = errors.fileno()
        with subprocess.Popen(command, **pipes, text=True, env=environment()) as child:  # type: ignore[call-overload]
            try:
                if child.stdout.readline() != "serving\n":
                    errors.seek(0)
                    pytest.fail(f"no cluster: {errors.read()[-4000:]}")
                yield Cluster(child, port)
            finally:
                child.stdin.close()
                child.wait(60)


@pytest.fixture(scope="session")
def two_replicas() -> Iterator[Cluster]:
    with cluster(replicas=2) as found:
        yield found
