"""A backend at the edge: answers at once with zeros, and holds still or fails where a test says so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np

from lossd_server.jobs.job import Computed, Job, Launch
from tests.waiting import WAIT_S

POISON = -666  # an ignore_index that makes `run` raise RuntimeError
GLUTTON = -667  # an ignore_index that makes `run` raise MemoryError
SECRET = "/secret/path"


class EdgeBackend:
    """inline_ns = 0 sends every batch to the worker's thread. While `gate` is clear, `run` waits inside."""

    name = "edge"
    device = "the tests"
    warm_up_steps = 1

    def __init__(self, inline_ns: float = 0.0) -> None:
        self.inline_ns = inline_ns
        self.gate = threading.Event()
        self.gate.set()
        self._entered = threading.Semaphore(0)  # released at each entry of `run`
        self.runs: list[list[Job]] = []
        self.threads: set[str] = set()

    def warm_up(self, report: Callable[[str], None]) -> None:
        report("nothing to compile")

    def run(self, launches: Sequence[Launch]) -> list[Computed]:
        jobs = [launch.job for launch in launches]
        self.runs.append(jobs)
        self.threads.add(threading.current_thread().name)
        self._entered.release()
        self.gate.wait()
        if any(job.ignore_index == POISON for job in jobs):
            raise RuntimeError(f"a bug at {SECRET}")
        if any(job.ignore_index == GLUTTON for job in jobs):
            raise MemoryError
        return [_zeros(job) for job in jobs]

    def until_entered(self) -> None:
        """Waits for the next entry of `run` that nobody has waited for yet."""
        if not self._entered.acquire(timeout=WAIT_S):
            raise TimeoutError(f"no batch reached the backend within {WAIT_S:.0f} s")

    def kernel_ns(self, job: Job) -> float:
        return 0.0

    def prepare(self, launch: Launch, computed: Computed) -> None:
        """Nothing: every batch goes through `run`."""

    def room(self, jobs: int) -> None:
        """None: nothing is prepared."""

    def trim(self) -> None:
        """Nothing is kept."""

    age = trim

    def close(self) -> None:
        self.gate.set()


def _zeros(job: Job) -> Computed:
    layout = job.layout
    gradient = np.zeros(layout.elements, job.compute) if job.input_gradient else None
    if job.formula.elementwise:
        losses = np.zeros(layout.elements, job.compute) if job.keep_losses else None
        return Computed(losses, np.zeros(layout.chunks), gradient)
    return Computed(np.zeros(layout.rows), None, gradient)
