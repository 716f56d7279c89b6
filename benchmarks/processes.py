"""Servers and clients of a comparison, each a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from servers import LISTENING, LOSSD

BENCHMARKS = Path(__file__).resolve().parent
ROOT = BENCHMARKS.parent
# Triton's client and its server's numpy do not fit lossd's environment.
PEERS_PYTHON = ROOT / ".venv/peers/bin/python"
ANSWER_S = 180.0
STOP_S = 40.0

LOSSD_SERVER = LOSSD
TRITON_SERVER = [str(PEERS_PYTHON), "-m", "peers.triton_server"]
TORCH_SERVER = [sys.executable, "-m", "peers.torch_server"]
BYTES_SERVER = {way: [sys.executable, "-m", "peers.byte_stream", "serve", way] for way in ("sync", "aio")}


class PeerFailed(Exception):
    """A peer's client could not do what it was told."""


@dataclass(frozen=True)
class Server:
    address: str
    pid: int


def environment() -> dict[str, str]:
    """Ours, with this folder and lossd's sources on the path whatever was there before."""
    paths = [str(BENCHMARKS), str(ROOT / "client"), str(ROOT / "server")]
    return os.environ | {"PYTHONPATH": ":".join(paths)}


@contextmanager
def serving(command: list[str]) -> Iterator[Server]:
    """A server, from the moment it is ready until the block ends."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(), cwd=ROOT)
    try:
        assert process.stdout is not None
        line = next((line for line in process.stdout if line.startswith(LISTENING)), "")
        if not line:
            raise PeerFailed(f"{' '.join(command)} ended with exit code {process.wait()}")
        # A server that goes on printing must not block on a pipe that nobody reads.
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield Server(line.removeprefix(LISTENING).strip(), process.pid)
    finally:
        stop(process)


def stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(timeout=STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Client:
    """One peer's client; see peers/worker.py."""

    def __init__(self, process: subprocess.Popen[str], name: str) -> None:
        self._process = process
        self._name = name

    def start(self, verb: str, **arguments: Any) -> None:
        """Gives a command whose answer `finish` waits for."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([verb, arguments]) + "\n")
        self._process.stdin.flush()

    def finish(self, timeout_s: float = ANSWER_S) -> Any:
        """Raises PeerFailed, also when no answer came in time."""
        assert self._process.stdout is not None
        watch = threading.Timer(timeout_s, self._process.kill)
        watch.start()
        line = self._process.stdout.readline()
        watch.cancel()
        if not line:
            raise PeerFailed(f"{self._name} ended, or took longer than {timeout_s:.0f} s")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerFailed(f"{self._name}: {answer['error']}")
        return answer["found"]

    def do(self, verb: str, **arguments: Any) -> Any:
        """Raises PeerFailed."""
        try:
            self.start(verb, **arguments)
        except BrokenPipeError:
            raise PeerFailed(f"{self._name} is gone") from None
        return self.finish()

    def seconds(self, verb: str = "evaluate", **arguments: Any) -> Callable[[], float]:
        """A round of turns.rounds: the median of the seconds that the verb finds."""
        return lambda: float(median(self.do(verb, **arguments)))

    def figures(self, verb: str, **arguments: Any) -> Callable[[], dict[str, float]]:
        """A round of turns.rounds: the figures that the verb finds."""

        def one() -> dict[str, float]:
            found: dict[str, float] = self.do(verb, **arguments)
            return found

        return one


@contextmanager
def client(module: str, *arguments: str, python: Path | str = sys.executable) -> Iterator[Client]:
    process = subprocess.Popen(
        [str(python), "-m", f"peers.{module}", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        cwd=ROOT,
    )
    try:
        yield Client(process, module)
    finally:
        # The end of its commands lets it clean up behind itself.
        with suppress(BrokenPipeError, subprocess.TimeoutExpired):
            assert process.stdin is not None
            process.stdin.close()
            process.wait(timeout=STOP_S)
        stop(process)


@contextmanager
def lossd(*flags: str) -> Iterator[tuple[Server, Client]]:
    with serving([*LOSSD_SERVER, *flags]) as server, client("lossd_client", server.address) as ours:
        yield server, ours


@contextmanager
def triton() -> Iterator[tuple[Server, Client]]:
    with serving(TRITON_SERVER) as server, client("triton_client", server.address, python=PEERS_PYTHON) as theirs:
        yield server, theirs


@contextmanager
def torch_service() -> Iterator[Client]:
    with serving(TORCH_SERVER) as server, client("torch_client", server.address) as theirs:
        yield theirs


@contextmanager
def byte_stream() -> Iterator[Client]:
    with (
        serving(BYTES_SERVER["sync"]) as sync,
        serving(BYTES_SERVER["aio"]) as aio,
        client("byte_stream", "send", sync.address, aio.address) as theirs,
    ):
        yield theirs
