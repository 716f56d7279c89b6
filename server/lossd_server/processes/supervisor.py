"""`lossd serve --workers N`: a parent that keeps N servers on one port, and does nothing else.

See docs/decisions/0014-workers.md.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from lossd_server.config.address import reserve
from lossd_server.config.machine import machine_bytes
from lossd_server.config.settings import Settings
from lossd_server.processes import shared_counters
from lossd_server.processes.restart_backoff import RestartBackoff

# Beyond drain_s, for what a worker does after its last answer.
STOP_MARGIN_S = 5.0

log = logging.getLogger(__name__)


class StartFailed(Exception):
    """A worker that could not start, in its own words."""


class WorkerProcess:
    """One worker's place: the process that holds it now, or when the next one may start."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.process: SpawnProcess | None = None
        self.pipe: Connection | None = None
        self.started_at = 0.0
        self.restart_at = float("inf")
        self.backoff = RestartBackoff()


class Supervisor:
    """Starts, watches and stops the workers. `entry(settings, index, memory, pipe)` is a worker's main function.

    Through its pipe a worker says ("ready", device, backend) or ("failed", sentence), once.
    """

    def __init__(self, settings: Settings, entry: Any) -> None:
        self._stack = ExitStack()
        listen = tuple(reserve(address, self._stack) for address in settings.listen)
        self.settings = replace(settings, listen=listen)
        self._entry = entry
        self._memory = shared_counters.shared(settings.workers)
        self._spawn = multiprocessing.get_context("spawn")
        self._workers = [WorkerProcess(index) for index in range(settings.workers)]
        self._stopping = False
        self._woken, self._waker = socket.socketpair()

    def start(self) -> tuple[str, str]:
        """Returns when all answer: their device and backend. Raises StartFailed.

        The first goes alone: where no kernel is cached it compiles them for all.
        """
        self._take_signals()
        said = ("", "")
        for group in (self._workers[:1], self._workers[1:]):
            for worker in group:
                self._begin(worker)
            for worker in group:
                said = self._first_word(worker) or said
        return said

    def run(self) -> None:
        """Watches until a signal says stop, then until all have ended."""
        while not self._stopping:
            self._watch()
        self.stop()

    def stop(self) -> None:
        """Passes the end on; who does not end in time is killed. Idempotent."""
        processes = [worker.process for worker in self._workers if worker.process is not None]
        for process in processes:
            process.terminate()
        end = time.monotonic() + self.settings.drain_s + STOP_MARGIN_S
        for process in processes:
            process.join(max(0.0, end - time.monotonic()))
            if process.is_alive():
                log.error("worker killed: it did not stop in time", extra={"pid": process.pid})
                process.kill()
                process.join()
        self._stack.close()

    def _take_signals(self) -> None:
        """A signal wakes `_watch` through a socket, so that none is lost between two looks."""
        self._waker.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, *_: object) -> None:
        self._stopping = True

    def _begin(self, worker: WorkerProcess) -> None:
        ours, theirs = self._spawn.Pipe(duplex=False)
        worker.process = self._spawn.Process(
            target=self._entry,
            args=(self.settings, worker.index, self._memory, theirs),
            name=f"lossd-worker-{worker.index}",
            daemon=True,
        )
        worker.process.start()
        theirs.close()
        worker.pipe = ours
        worker.started_at = time.monotonic()
        worker.restart_at = float("inf")

    def _first_word(self, worker: WorkerProcess) -> tuple[str, str] | None:
        """What a worker says of its start; None where a signal came first."""
        assert worker.pipe is not None
        while not self._stopping:
            for found in wait([worker.pipe, self._woken]):
                if found is self._woken:
                    self._woken.recv(64)
                    continue
                try:
                    word = worker.pipe.recv()
                except EOFError:
                    raise StartFailed(f"worker {worker.index} ended before it was ready") from None
                if word[0] == "failed":
                    raise StartFailed(word[1])
                return word[1], word[2]
        return None

    def _watch(self) -> None:
        """Waits for a signal, an end, or a time to start again; starts what is due."""
        now = time.monotonic()
        due = min(worker.restart_at for worker in self._workers)
        sentinels = {w.process.sentinel: w for w in self._workers if w.process is not None}
        watched: Sequence[Any] = [*sentinels, self._woken]
        for found in wait(watched, None if due == float("inf") else max(0.0, due - now)):
            if isinstance(found, int):
                self._ended(sentinels[found])
            else:
                self._woken.recv(64)
        now = time.monotonic()
        for worker in self._workers:
            if worker.restart_at <= now and not self._stopping:
                self._begin(worker)

    def _ended(self, worker: WorkerProcess) -> None:
        process, worker.process = worker.process, None
        if process is None or self._stopping:
            return
        process.join()
        now = time.monotonic()
        wait_s = worker.backoff.wait_s(now - worker.started_at)
        worker.restart_at = now + wait_s
        extra = {"worker": worker.index, "pid": process.pid, "exit": process.exitcode, "restart_s": wait_s}
        log.error("worker ended", extra=extra | {"said": last_words(worker.pipe)})


def last_words(pipe: Connection | None) -> str:
    """Why a worker could not start, where that is how it ended."""
    with suppress(EOFError):
        while pipe is not None and pipe.poll():
            word = pipe.recv()
            if word[0] == "failed":
                return str(word[1])
    return ""


def share(settings: Settings, index: int) -> Settings:
    """A worker's part of the limits that were given for the whole."""
    count = settings.workers
    if settings.device == "cuda":  # before anything of CUDA is imported
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", str(index))
    threads = settings.threads or len(os.sched_getaffinity(0))
    return replace(
        settings,
        workers=1,
        threads=max(1, threads // count),
        max_inflight_bytes=settings.max_inflight_bytes // count,
        max_inflight_requests=max(1, settings.max_inflight_requests // count),
        max_connections=max(1, settings.max_connections // count),
        max_shared_memory_bytes=(settings.max_shared_memory_bytes or machine_bytes() // 4) // count,
        shared_memory_socket=settings.shared_memory_socket.replace("{worker}", str(index)),
    )
