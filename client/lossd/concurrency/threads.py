"""Concurrency primitives of threads, for the blocking client. Each has its twin in `tasks`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from threading import Thread
from typing import ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

# Suspends the thread for that many seconds.
sleep = time.sleep

# A channel does not survive a fork: one entry for each process. A child keeps its parent's, and leaves it alone.
PerOwner = dict[int, T]
# The process.
owner = os.getpid

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
