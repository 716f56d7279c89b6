"""Waiting for what another task, thread or process does, within a bound; the failure says what did not come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

WAIT_S = 60.0  # far beyond what anything takes on a loaded machine, and below a test's own timeout


def until(holds: Callable[[], bool], what: str) -> None:
    """Asks again and again until `holds`."""
    end = time.monotonic() + WAIT_S
    while not holds():
        if time.monotonic() > end:
            pytest.fail(f"not within {WAIT_S:.0f} s: {what}")


async def until_awaited(holds: Callable[[], Awaitable[bool] | bool], what: Callable[[], str] | str) -> None:
    """The same in a loop, whose other tasks go on. what: or a function that says it once the time is over."""
    try:
        async with asyncio.timeout(WAIT_S):
            while not (found if isinstance(found := holds(), bool) else await found):
                await asyncio.sleep(0)  # `holds` may never have to wait
    except TimeoutError:
        pytest.fail(f"not within {WAIT_S:.0f} s: {what if isinstance(what, str) else what()}")
