"""Concurrency primitives of threads, for the blocking client. Each has its twin in `tasks`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from threading import Thread
from typing import Generic, ParamSpec, Protocol, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

# Suspends the thread for that many seconds.
sleep = time.sleep


class Owned(Protocol):
    """What a client has for each process."""

    def close(self) -> None: ...

    def abandon(self) -> None:
        """Lets go at once."""


OwnedT = TypeVar("OwnedT", bound=Owned)


class PerOwner(Generic[OwnedT]):
    """One entry for each process, since a channel does not survive a fork. All of its threads share it.

    A forked child keeps its parent's entries, and leaves them alone. Thread-safe without a lock, which a fork could
    leave held: the interpreter does not divide a step of a dict.
    """

    def __init__(self) -> None:
        self._entries: dict[int, OwnedT] = {}

    def __bool__(self) -> bool:
        return bool(self._entries)

    def get(self) -> OwnedT | None:
        """This process's entry."""
        return self._entries.get(os.getpid())

    def open(self, make: Callable[[], OwnedT]) -> OwnedT:
        """This process's entry, made where there is none."""
        made = make()
        entry = self._entries.setdefault(os.getpid(), made)
        if entry is not made:  # another thread came first
            made.abandon()
        return entry

    def close(self) -> None:
        """Closes this process's entry."""
        entry = self._entries.pop(os.getpid(), None)
        if entry is not None:
            entry.close()

    def abandon(self, ended: bool) -> None:
        """Lets go of this process's entry, unless only what `ended` is meant: it lives as long as its process."""
        entry = None if ended else self._entries.pop(os.getpid(), None)
        if entry is not None:
            entry.abandon()


Background = Thread

# The items of an iterable.
iterate = iter


def run_blocking(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls a function that may block: here all of them may."""
    return function(*args, **kwargs)


def start_background(work: Callable[[], None]) -> Background:
    """Runs `work` beside the caller, in a thread that does not keep the interpreter alive."""
    thread = Thread(target=work, name="lossd-background", daemon=True)
    thread.start()
    return thread


def stop_background(background: Background) -> None:
    """A thread cannot be cancelled: it ends with the call that it waits for, which its closed channel ends."""
