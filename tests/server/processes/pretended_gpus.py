"""`lossd serve` on GPUs that are pretended: the driver counts those that a file says, and a backend tells which it has.

As CUDA does, both see those of CUDA_VISIBLE_DEVICES, up to the first that is not there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lossd_server.backends import DeviceLost, triton
from lossd_server.config import gpus
from lossd_server.jobs.job import Computed, Launch
from tests.server.edge import EdgeBackend
from tests.server.server_process import environment
from tests.waiting import WAIT_S

FILE = "LOSSD_TEST_GPUS"  # the variable that names the file of how many GPUs there are
LOST = -668  # an ignore_index that makes a device be lost
NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
PROGRAM = """
import sys

from lossd_server import serve
from tests.server.processes.pretended_gpus import pretend

pretend()
if __name__ == "__main__":
    sys.exit(serve.main(sys.argv[1:]))
"""


def visible() -> list[str]:
    """The GPUs that a process with this environment sees."""
    there = [str(number) for number in range(int(Path(os.environ[FILE]).read_text()))]
    found: list[str] = []
    for entry in os.environ.get(gpus.VISIBLE, ",".join(there)).split(","):
        if entry.strip() not in there:
            break
        found.append(entry.strip())
    return found


class Driver:
    """What is asked of libcuda."""

    def __init__(self, name: str) -> None:
        assert name == gpus.DRIVER

    def cuInit(self, flags: int) -> int:  # CUDA's names
        return 0 if visible() else NO_DEVICE

    def cuDeviceGetCount(self, found: Any) -> int:
        found._obj.value = len(visible())
        return 0


class GpuBackend(EdgeBackend):
    """Of the first GPU that is visible: GPU n has n + 1 of 8 bytes in use."""

    name = "triton"

    def __init__(self) -> None:
        super().__init__()
        self._gpu = visible()[0]
        self.device = f"pretended, {gpus.name_of_first(os.environ)}"
        assert self.device == f"pretended, GPU {self._gpu}"

    def device_memory(self) -> tuple[int, int]:
        return int(self._gpu) + 1, 8

    def run(self, launches: Sequence[Launch]) -> list[Computed]:
        if any(launch.job.ignore_index == LOST for launch in launches):
            raise DeviceLost("CUDA error: an illegal memory access was encountered")
        return super().run(launches)


def pretend() -> None:
    """In the server's process, and in each worker's, which runs the same program."""
    gpus.CDLL = Driver  # type: ignore[attr-defined,assignment] # the edge
    triton.missing = lambda: None if visible() else "there is no CUDA device that torch can use"
    triton.TritonBackend = GpuBackend  # type: ignore[assignment,misc]


class PretendedServer:
    """A server of `folder`, which has its program and its count of GPUs. lines: of its log so far."""

    def __init__(self, folder: Path, count: int, *flags: str, visible: str | None = None) -> None:
        program = folder / "pretended.py"
        program.write_text(PROGRAM)
        self._count = folder / "gpus"
        self.there_are(count)
        env = environment() | {FILE: str(self._count)}
        env["PYTHONPATH"] += os.pathsep + str(Path(__file__).parents[3])
        env.pop(gpus.VISIBLE, None)
        if visible is not None:
            env[gpus.VISIBLE] = visible
        self.lines: list[str] = []
        self.child = subprocess.Popen(
            [sys.executable, str(program), "--listen", "127.0.0.1:0", "--http", "0", "--drain-s", "5", *flags],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reading = threading.Thread(target=lambda: self.lines.extend(self.child.stderr or ()), daemon=True)
        self._reading.start()

    def there_are(self, count: int) -> None:
        """From now on."""
        written = self._count.with_suffix(".new")
        written.write_text(str(count))
        written.replace(self._count)

    def said(self) -> list[str]:
        """What it prints when it answers, up to the last line."""
        assert self.child.stdout is not None
        found: list[str] = []
        for line in self.child.stdout:
            found.append(line.strip())
            if line.startswith("http "):
                break
        return found

    def close(self) -> int:
        """Ends it; the exit status."""
        self.child.terminate()
        try:
            return self.child.wait(WAIT_S)
        finally:
            self.child.kill()
            self._reading.join(WAIT_S)
            for stream in (self.child.stdout, self.child.stderr):
                if stream is not None:
                    stream.close()


@contextmanager
def pretended(folder: Path, count: int, *flags: str, visible: str | None = None) -> Iterator[PretendedServer]:
    server = PretendedServer(folder, count, *flags, visible=visible)
    try:
        yield server
    finally:
        server.close()
