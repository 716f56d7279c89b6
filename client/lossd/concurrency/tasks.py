"""Concurrency primitives of asyncio, for the asynchronous client. Each has its twin in `threads`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

# Suspends the task for that many seconds.
sleep = asyncio.sleep
# Calls a function that may block, in a thread, so that the loop goes on.
run_blocking = asyncio.to_thread

# A channel belongs to its event loop: one entry for each, which goes when the loop does.
PerOwner = WeakKeyDictionary[asyncio.AbstractEventLoop, T]
# The running loop.
owner = asyncio.get_running_loop

Background = asyncio.Task[None]


def start_background(work: Callable[[], Coroutine[Any, Any, None]]) -> Background:
    """Runs `work` beside the caller, in a task."""
    return asyncio.create_task(work())


async def stop_background(background: Background) -> None:
    """Cancels it, and waits until it has ended."""
    background.cancel()
    await asyncio.gather(background, return_exceptions=True)


async def iterate(items: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    """The items of either kind of iterable."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
