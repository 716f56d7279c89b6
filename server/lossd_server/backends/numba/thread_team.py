"""Thread pool whose threads do one thing together, and the caller with them.

Threads of our own: those of `concurrent.futures` take no work once the interpreter begins to end, which a server inside
another program may outlive: there are `atexit` handlers, and threads that go on after the main one.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread

Outcomes = SimpleQueue[BaseException | None]
# Work with where its outcome goes; None ends a thread.
Line = SimpleQueue[tuple[Callable[[], None], Outcomes] | None]


class ThreadTeam:
    """`size` threads beside the caller's, until `close` or until nobody holds the team. Thread-safe."""

    def __init__(self, size: int, name: str) -> None:
        self._line: Line = SimpleQueue()
        self._threads = [Thread(target=_serve, args=(self._line,), name=name, daemon=True) for _ in range(size)]
        for thread in self._threads:
            thread.start()
        self._end = weakref.finalize(self, _dismiss, self._line, size)

    def run(self, work: Callable[[], None]) -> None:
        """Calls `work` on each thread and on this one; returns when all are done, or raises what one of them raised."""
        outcomes: Outcomes = SimpleQueue()
        for _ in self._threads:
            self._line.put((work, outcomes))
        try:
            work()
        finally:
            errors = [outcomes.get() for _ in self._threads]
        for error in errors:
            if error is not None:
                raise error

    def close(self) -> None:
        """Ends the threads when what was begun is done. A second time does nothing."""
        self._end()
        for thread in self._threads:
            thread.join()


def _serve(line: Line) -> None:
    while _run_next(line):
        pass


def _run_next(line: Line) -> bool:
    """A function of its own, so that nothing of the work is kept while waiting."""
    found = line.get()
    if found is None:
        return False
    work, outcomes = found
    error: BaseException | None = None
    try:
        work()
    except BaseException as raised:
        error = raised
    outcomes.put(error)
    return True


def _dismiss(line: Line, size: int) -> None:
    for _ in range(size):
        line.put(None)
