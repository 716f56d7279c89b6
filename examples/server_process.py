"""`lossd serve` as a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Self

COMMAND = [sys.executable, "-m", "lossd_server", "--listen", "127.0.0.1:0"]
LISTENING = "listening on "


class ServerProcess:
    """Starts a server on a free port of this machine and waits until it is ready; `stop` ends it.

    report: is told every line that the server prints before it listens (the first start compiles its kernels).
    """

    def __init__(self, report: Callable[[str], None]) -> None:
        self._process = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.address = self._await_address(report)
        # A full pipe would block the server: what it prints from now on is read and dropped.
        threading.Thread(target=self._drain, daemon=True).start()

    def _await_address(self, report: Callable[[str], None]) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(LISTENING):
                return line.removeprefix(LISTENING).strip()
            report(line.rstrip())
        raise RuntimeError(f"the server ended before it was ready, with exit code {self._process.wait()}")

    def _drain(self) -> None:
        assert self._process.stdout is not None
        for _ in self._process.stdout:
            pass

    def stop(self) -> int:
        """Asks the server to finish what it accepted and end (SIGTERM); returns its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
