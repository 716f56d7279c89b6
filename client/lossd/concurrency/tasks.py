"""Concurrency primitives of asyncio, for the asynchronous client. Each has its twin in `threads`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable
from contextlib import suppress
from contextvars import copy_context
from threading import Thread
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, cast

T = TypeVar("T")
P = ParamSpec("P")

# Suspends the task for that many seconds.
sleep = asyncio.sleep


async def run_blocking(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls a function that may block, in a thread, so that the loop goes on.

    A thread of its own, since asyncio's executor takes nothing once the interpreter begins to end.
    """
    loop, context = asyncio.get_running_loop(), copy_context()
    outcome: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if outcome.done():  # whoever waited was cancelled
            return
        if error is None:
            outcome.set_result(cast("T", result))
        else:
            outcome.set_exception(error)

    def work() -> None:
        result: T | None = None
        error: BaseException | None = None
        try:
            result = context.run(function, *args, **kwargs)
        except BaseException as raised:
            error = raised
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    Thread(target=work, name="lossd-blocking", daemon=True).start()
    return await outcome


class Owned(Protocol):
    """What a client has for each event loop."""

    async def close(self) -> None: ...

    def abandon(self) -> None:
        """Lets go at once, without the loop."""


OwnedT = TypeVar("OwnedT", bound=Owned)


class PerOwner(Generic[OwnedT]):
    """One entry for each event loop of this process, since a channel belongs to its loop. It ends before the loop does.

    A forked child keeps its parent's entries, and leaves them alone. Thread-safe without a lock, which a fork could
    leave held: an entry is made and closed in its own loop, and the interpreter does not divide a step of a dict.
    """

    def __init__(self) -> None:
        # With a generator that closes the entry: loops close theirs at their end, as nothing else that may be awaited.
        self._entries: dict[tuple[int, asyncio.AbstractEventLoop], tuple[OwnedT, AsyncGenerator[None, None]]] = {}

    def __bool__(self) -> bool:
        return bool(self._entries)

    def get(self) -> OwnedT | None:
        """The running loop's entry."""
        found = self._entries.get((os.getpid(), asyncio.get_running_loop()))
        return None if found is None else found[0]

    def open(self, make: Callable[[], OwnedT]) -> OwnedT:
        """The running loop's entry, made where there is none."""
        self.abandon(ended=True)
        key = os.getpid(), asyncio.get_running_loop()
        found = self._entries.get(key)
        if found is None:
            entry = make()
            found = self._entries[key] = entry, self._closing(key, entry)
            with suppress(StopIteration):  # which says that it has come to its yield
                anext(found[1]).send(None)
        return found[0]

    async def _closing(self, key: tuple[int, asyncio.AbstractEventLoop], entry: OwnedT) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._entries.pop(key, None)
            await entry.close()

    async def close(self) -> None:
        """Closes the running loop's entry, and lets go of those whose loops were closed without asking."""
        self.abandon(ended=True)
        found = self._entries.pop((os.getpid(), asyncio.get_running_loop()), None)
        if found is not None:
            await found[1].aclose()

    def abandon(self, ended: bool) -> None:
        """Lets go of this process's entries, or of those whose loops are closed. Nothing in them can be awaited."""
        for key in list(self._entries):
            pid, loop = key
            if pid == os.getpid() and (loop.is_closed() or not ended):
                found = self._entries.pop(key, None)
                if found is not None:
                    found[0].abandon()


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
