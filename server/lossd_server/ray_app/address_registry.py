"""Address registry: which replicas of an application there are, for as long as they say so. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable

# How long an address counts, and how often its replica says so again.
TIME_TO_LIVE_S, REPEAT_S = 15.0, 5.0
# How long clients believe what they were told.
AGAIN_S = 5.0


class AddressRegistry:
    """clock: seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends_s: dict[str, float] = {}

    def keep(self, address: str) -> None:
        """It counts from now on, or goes on counting."""
        self._ends_s[address] = self._clock() + TIME_TO_LIVE_S

    def leave(self, address: str) -> None:
        self._ends_s.pop(address, None)

    def addresses(self) -> list[str]:
        now_s = self._clock()
        self._ends_s = {address: end_s for address, end_s in self._ends_s.items() if end_s > now_s}
        return sorted(self._ends_s)
