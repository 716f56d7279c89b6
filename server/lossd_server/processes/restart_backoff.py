"""Restart back-off: when a worker that ended is started again. Pure policy, its clock is the caller's."""

from __future__ import annotations

FIRST_S = 0.5
GROWTH = 2.0
LONGEST_S = 30.0
# A worker that lived this long was well: the next wait is the first again.
WELL_S = 60.0


class RestartBackoff:
    """The waits of one worker's place."""

    def __init__(self) -> None:
        self._next_s = FIRST_S

    def wait_s(self, lived_s: float) -> float:
        """Seconds to wait before the next start. lived_s: what the worker that ended had lived."""
        if lived_s >= WELL_S:
            self._next_s = FIRST_S
        wait_s = self._next_s
        self._next_s = min(self._next_s * GROWTH, LONGEST_S)
        return wait_s
