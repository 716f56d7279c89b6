"""Three servers behind one list of addresses, each a process that can be killed, slowed and started again."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import lossd
from tests.server.server_process import command, environment

# Of each tenth of a second, how long a slow server stands still: as one whose container has used up its processor time.
STOPPED_S, RUNNING_S = 0.09, 0.01


class ServerProcess:
    """One on a port that it keeps. start: returns once it serves."""

    def __init__(self, *flags: str) -> None:
        with socket.socket() as picked:
            picked.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{picked.getsockname()[1]}"
        self._flags = flags
        self._slowing = threading.Event()
        self._slower: threading.Thread | None = None
        self.start()

    def start(self) -> None:
        self._child = subprocess.Popen(
            command("--listen", self.address, *self._flags), stdout=subprocess.PIPE, text=True, env=environment()
        )
        assert self._child.stdout is not None
        assert self._child.stdout.readline().startswith("listening on ")

    def kill(self) -> None:
        """Also one that has ended."""
        self._child.kill()
        if self._child.returncode is None:
            self._child.communicate()

    def end(self) -> int:
        """As an orchestrator ends it; its exit status."""
        self._child.terminate()
        self._child.communicate()
        return self._child.returncode

    def stand_still(self) -> None:
        self._child.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._child.send_signal(signal.SIGCONT)

    def slow(self) -> None:
        """From now on it has a tenth of the time."""
        self._slower = threading.Thread(target=self._stop_and_go, daemon=True)
        self._slower.start()

    def _stop_and_go(self) -> None:
        while not self._slowing.wait(RUNNING_S):
            self.stand_still()
            self._slowing.wait(STOPPED_S)
            self.go_on()

    def close(self) -> None:
        self._slowing.set()
        if self._slower is not None:
            self._slower.join()
        self.kill()

    def completed(self) -> int:
        """Evaluations since it started; 0 where it does not answer."""
        try:
            with lossd.Client(self.address, connect_timeout=2.0) as client:
                return client.info(timeout=5.0).statistics.completed
        except lossd.Error:
            return 0


@contextmanager
def three_servers(*flags: str) -> Iterator[list[ServerProcess]]:
    servers: list[ServerProcess] = []
    try:
        servers.extend(ServerProcess(*flags) for _ in range(3))
        yield servers
    finally:
        for server in servers:
            server.close()


def listed(servers: list[ServerProcess]) -> str:
    return ",".join(server.address for server in servers)


def shares(servers: list[ServerProcess], seconds: float) -> list[float]:
    """Of what all of them completed in so long, by server; one that was started anew meanwhile counts from there."""
    before = [server.completed() for server in servers]
    time.sleep(seconds)
    after = [server.completed() for server in servers]
    done = [max(0, now - then) for then, now in zip(before, after, strict=True)]
    return [one / max(1, sum(done)) for one in done]
