"""Supervisor of `lossd serve --workers N`: a parent that keeps N servers on one port, and does nothing else.

See docs/decisions/0014-workers.md.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from math import inf
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, cast

from lossd_server.config.address import reserve
from lossd_server.config.settings import Settings
from lossd_server.metrics import memory
from lossd_server.processes.readiness import Phase, Readiness
from lossd_server.processes.restart_backoff import RestartBackoff
from lossd_server.processes.start_words import StartWord, receive_word

# Beyond drain_s, for what a worker does after its last answer.
STOP_MARGIN_S = 5.0
# How often it is looked whether the workers go on, and how long one may stand still before it is killed: its event loop
# publishes ten times a second, so that this is no busy one.
LOOK_S, STALLED_S = 1.0, 8.0
# Times that a worker may be lost while the server starts.
START_TRIES = 5
# SIGHUP: a terminal that is closed.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

# Where all workers compute once the first has found out, by its backend: one that starts later takes no other kind.
DEVICES = {"numba": "cpu", "triton": "cuda"}

log = logging.getLogger(__name__)


class StartFailed(Exception):
    """A worker that could not start, in its own words."""


class WorkerProcess:
    """One worker's place: the process that holds it now, or when the next one may start.

    ready: whether it has said that it answers; device: as the last one there said. beat, beat_at: what it last
    published, and when that changed.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self.process: SpawnProcess | None = None
        self.pipe: Connection | None = None
        self.started_at = 0.0
        self.restart_at = inf
        self.backoff = RestartBackoff()
        self.ready = False
        self.device = ""
        self.beat = 0
        self.beat_at = inf


class Supervisor:
    """Starts, watches and stops the workers. `entry(settings, index, memory, pipe, calls)` is a worker's main function.

    Through its pipe a worker says a StartWord, once. calls: of each worker, where it takes the HTTP port's calls.
    """

    def __init__(self, settings: Settings, entry: Any, calls: Sequence[str] = ()) -> None:
        self._stack = ExitStack()
        listen = tuple(reserve(address, self._stack) for address in settings.listen)
        self.settings = replace(settings, listen=listen)
        self._entry = entry
        self._calls = calls or [""] * settings.workers
        self._memory = memory.shared(settings.workers)
        self.metrics = memory.words_of(self._memory)
        self.readiness = Readiness(self.metrics)
        self._spawn = multiprocessing.get_context("spawn")
        self._workers = [WorkerProcess(index) for index in range(settings.workers)]
        self._stopping = False
        self._looked_at = 0.0
        self._woken, self._waker = socket.socketpair()

    def start(self) -> tuple[list[str], str]:
        """Returns when all answer, or a signal came: each one's device, and their backend. Raises StartFailed.

        The first goes alone: where no kernel is cached it compiles them for all, and with "auto" it finds out on which
        kind of device they compute. One that says why it cannot start ends
        the start; one that is lost while it starts is started again, a few times.
        """
        self._take_signals()
        devices: list[str] = []
        backend = ""
        for group in (self._workers[:1], self._workers[1:]):
            for worker in group:
                self._begin(worker)
            for worker in group:
                word = self._first_word(worker)
                if word is not None:
                    devices.append(word.device)
                    backend = word.backend
                    self.settings = replace(self.settings, device=DEVICES.get(backend, self.settings.device))
        if not self._stopping:
            self.readiness.phase = Phase.SERVING
        return devices, backend

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
        for number in STOP_SIGNALS:
            signal.signal(number, self._note)

    def _note(self, *_: object) -> None:
        self._stopping = True
        self.readiness.phase = Phase.STOPPING

    def _begin(self, worker: WorkerProcess) -> None:
        """Starts a process in the worker's place; later, where there is no room for one now."""
        now = time.monotonic()
        try:
            worker.pipe, worker.process = self._spawned(worker.index)
            if worker.started_at:
                memory.count_restart(self.metrics)
        except (OSError, MemoryError) as error:  # no descriptors, no processes, no memory
            self._later(worker, 0.0, {"error": str(error)}, "worker not started")
            return
        worker.started_at = now
        worker.restart_at = inf
        worker.ready = False

    def _spawned(self, index: int) -> tuple[Connection, SpawnProcess]:
        ours, theirs = self._spawn.Pipe(duplex=False)
        try:
            process = self._spawn.Process(
                target=self._entry,
                args=(self.settings, index, self._memory, theirs, self._calls[index]),
                name=f"lossd-worker-{index}",
                daemon=True,
            )
            process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return ours, process

    def _first_word(self, worker: WorkerProcess) -> StartWord | None:
        """What a worker says of its start; None where a signal came first."""
        tries = 0
        while not self._stopping:
            if worker.pipe is None or worker.process is None:
                tries += 1
                if tries > START_TRIES:
                    raise StartFailed(f"worker {worker.index} ended {tries} times before it was ready")
                self._wait_for(self._woken, until=worker.restart_at)
                if not self._stopping:
                    self._begin(worker)
                continue
            if not self._wait_for(worker.pipe):
                continue
            try:
                word = receive_word(worker.pipe)
            except (EOFError, OSError):
                self._ended(worker)
                continue
            if word.failed:
                raise StartFailed(word.failed)
            self._answers(worker, word)
            return word
        return None

    def _wait_for(self, awaited: Any, until: float = inf) -> bool:
        """Waits for `awaited`, which may be `_woken`, a signal, or a time; whether it was `awaited`."""
        found = wait({awaited, self._woken}, None if until == inf else max(0.0, until - time.monotonic()))
        if self._woken in found:
            self._woken.recv(64)
        return awaited in found

    def _answers(self, worker: WorkerProcess, word: StartWord) -> None:
        worker.ready = True
        worker.device = word.device
        pid = worker.process and worker.process.pid
        log.info("worker answers", extra={"worker": worker.index, "pid": pid, "device": worker.device})
        worker.beat = memory.beat_of(self.metrics, worker.index)
        worker.beat_at = time.monotonic()

    def _watch(self) -> None:
        """Waits for a signal, an end, a word, or a time to look again; starts what is due, kills what has stopped."""
        now = time.monotonic()
        due = min(worker.restart_at for worker in self._workers)
        sentinels = {w.process.sentinel: w for w in self._workers if w.process is not None}
        pipes = {w.pipe: w for w in self._workers if w.pipe is not None and not w.ready and w.process is not None}
        watched: Sequence[Any] = [*sentinels, *pipes, self._woken]
        for found in wait(watched, max(0.0, min(due - now, LOOK_S))):
            if isinstance(found, int):
                self._ended(sentinels[found])
            elif found is self._woken:
                self._woken.recv(64)
            else:
                self._heard(pipes[cast("Connection", found)])
        now = time.monotonic()
        self._look(now)
        for worker in self._workers:
            if worker.restart_at <= now and not self._stopping:
                self._begin(worker)

    def _heard(self, worker: WorkerProcess) -> None:
        """A worker that was started again says that it answers, or why it cannot: then its end follows."""
        if worker.pipe is not None and worker.process is not None:
            try:
                word = receive_word(worker.pipe)
            except (EOFError, OSError):
                return self._ended(worker)
            if word.failed:
                self._ended(worker, word.failed)
            else:
                self._answers(worker, word)
        return None

    def _look(self, now: float) -> None:
        """Kills workers whose event loop has stood still: the kernel goes on giving them connections."""
        if now - self._looked_at > STALLED_S / 2:  # this process itself was stopped, or starved: so were they
            for worker in self._workers:
                worker.beat_at = now
        self._looked_at = now
        for worker in self._workers:
            if not worker.ready or worker.process is None:
                continue
            beat = memory.beat_of(self.metrics, worker.index)
            if beat != worker.beat:
                worker.beat, worker.beat_at = beat, now
            elif now - worker.beat_at > STALLED_S:
                log.error("worker killed: it stands still", extra={"worker": worker.index, "pid": worker.process.pid})
                worker.process.kill()
                worker.beat_at = now

    def _ended(self, worker: WorkerProcess, said: str = "") -> None:
        process, worker.process = worker.process, None
        pipe, worker.pipe = worker.pipe, None
        if process is None or self._stopping:
            return
        process.join()
        memory.clear_gauges(self.metrics, worker.index)
        fields = {"pid": process.pid, "exit": process.exitcode, "said": said or last_words(pipe)}
        fields["device"] = worker.device
        if pipe is not None:
            pipe.close()
        self._later(worker, time.monotonic() - worker.started_at, fields, "worker ended")

    def _later(self, worker: WorkerProcess, lived_s: float, fields: dict[str, Any], event: str) -> None:
        wait_s = worker.backoff.wait_s(lived_s)
        worker.restart_at = time.monotonic() + wait_s
        worker.ready = False
        log.error(event, extra={"worker": worker.index, "restart_s": wait_s} | fields)


def last_words(pipe: Connection | None) -> str:
    """Why a worker could not start, where that is how it ended."""
    with suppress(EOFError, OSError):
        while pipe is not None and pipe.poll():
            if word := receive_word(pipe).failed:
                return word
    return ""
