"""Servers of a run, each `lossd serve` as a process of its own, on the same addresses each time that it starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import lossd
from chaos.processes import descendants, workers

LISTENING = "listening on "
# With kernels that must be compiled, on a machine whose processors are all busy.
START_S = 240.0
DRAIN_S = 8
STOP_S = DRAIN_S + 15.0
# Short, so that a run meets them: a stopped client outlives them.
LIMITS = ("--max-body-s", "5", "--max-stream-idle-s", "6", "--max-admission-wait-s", "0.5", "--drain-s", str(DRAIN_S))


class Server:
    """name: see Route. unix: a Unix socket to listen on, too. fit: held while its files do not fit together, which no
    server starts with. pid: of the running process, the parent where there are workers. log: what it writes to stderr,
    of all its lives."""

    def __init__(
        self, name: str, folder: Path, count: int, flags: list[str], fit: threading.Lock, unix: str = ""
    ) -> None:
        self.name = name
        self.count = count
        self.log = folder / f"{name}.log"
        self.address = "127.0.0.1:0"
        self._unix = unix
        self._flags = flags
        self._fit = fit
        self._folder = folder / f"{name}-tmp"
        self._folder.mkdir()
        self._process: subprocess.Popen[str] | None = None
        # Held by whoever starts, stops or hurts it.
        self.lock = threading.Lock()

    def start(self, **variables: str) -> None:
        """Returns when it listens. variables: more of the environment. Raises RuntimeError where it does not start."""
        command = [sys.executable, "-m", "lossd_server", "--device", "cpu", "--workers", str(self.count)]
        command += ["--listen", self.address, *LIMITS, *self._flags]
        if self._unix:
            command += ["--listen", self._unix]
        environment = {**os.environ, "TMPDIR": str(self._folder), "XDG_RUNTIME_DIR": "", **variables}
        with self._fit:
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
                )
            assert self._process.stdout is not None
            guard = threading.Timer(START_S, self._process.kill)
            guard.start()
            line = next((line for line in self._process.stdout if line.startswith(LISTENING)), "")
            guard.cancel()
        if not line:
            raise RuntimeError(f"{self.name} did not start, exit status {self._process.wait()}: see {self.log}")
        self.address = line.removeprefix(LISTENING).split()[0]
        threading.Thread(target=self._process.stdout.read, daemon=True).start()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def serving(self) -> list[int]:
        """The processes that answer."""
        return workers(self.pid) if self.count > 1 else [self.pid]

    @property
    def has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def kill(self) -> None:
        """SIGKILL, to the process and its workers; those of a killed parent end by themselves, some time."""
        assert self._process is not None
        for one in (self.pid, *descendants(self.pid)):
            try:
                os.kill(one, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait()

    def drain(self) -> str:
        """SIGTERM. "" where it ended in time with 0, else what was wrong."""
        assert self._process is not None
        start = time.monotonic()
        self._process.terminate()
        try:
            status = self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return f"{self.name} had not ended {STOP_S:.0f} s after SIGTERM"
        took = time.monotonic() - start
        return f"{self.name} ended with status {status} {took:.1f} s after SIGTERM" if status else ""

    def folders(self) -> list[str]:
        """Private folders that are there."""
        return sorted(str(one) for one in self._folder.glob("*lossd-*"))


def answers(address: str, within_s: float, ca: str) -> bool:
    """Whether a new client is told within the time that the server serves."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        try:
            with lossd.Client(address, ca=ca or None) as client:
                if client.health(timeout=2.0):
                    return True
        except lossd.Error:
            pass
        time.sleep(0.05)
    return False
