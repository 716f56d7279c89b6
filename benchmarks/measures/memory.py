"""The server's memory while a long stream passes through: a memory-mapped file of zeros that is stored nowhere."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from time import perf_counter
from typing import Any

from peers.case import write
from processes import PeerFailed, lossd

STREAMED_BYTES = 20_000_000_000
CLASSES = 32000
SAMPLE_S = 0.1
KEPT = 150


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def resident_bytes(pid: int) -> int:
    """RSS of a process and of those below it."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(resident_bytes(child) for child in children(pid))


class Watch:
    """Samples a server's memory until it is told to stop."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stopped = threading.Event()
        self.samples: list[tuple[float, int]] = []
        self._start = perf_counter()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> list[tuple[float, int]]:
        """(seconds since the start, bytes): the greatest of each of at most 150 stretches of time."""
        self._stopped.set()
        self._thread.join()
        stretch = 1 + len(self.samples) // KEPT
        cuts = range(0, len(self.samples), stretch)
        return [max(self.samples[cut : cut + stretch], key=lambda sample: sample[1]) for cut in cuts]

    def _run(self) -> None:
        while not self._stopped.wait(SAMPLE_S):
            self.samples.append((round(perf_counter() - self._start, 2), resident_bytes(self._pid)))


def measure(folder: Path, count: int, quick: bool) -> dict[str, Any]:
    """Idle bytes, and samples during one evaluation of 20 GB; the loss of zeros is log(classes)."""
    rows = STREAMED_BYTES // (4 * CLASSES) // (10 if quick else 1)
    file = folder / "zeros.f32"
    with file.open("wb") as sparse:
        sparse.truncate(4 * rows * CLASSES)
    case = str(write(folder / "memory", 8, 16))
    with lossd() as (server, client):
        client.do("calls", case=case, concurrency=1, count=50)
        idle = resident_bytes(server.pid)
        watch = Watch(server.pid)
        try:
            taken = client.do("long", file=str(file), rows=rows, classes=CLASSES)
            failed = {}
        except PeerFailed as error:
            print(f"  {error}", file=sys.stderr)
            taken, failed = None, {"lossd": str(error)}
        samples = watch.stop()
    file.unlink()
    return {"streamed_bytes": 4 * rows * CLASSES, "idle": idle, "taken": taken, "samples": samples, "failed": failed}
