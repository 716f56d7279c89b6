"""Deal: blocks of a file handed out to whoever is free, and their results given back in the file's order."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from lossd.errors import Error
from lossd.results import Result

Arrays = dict[str, npt.NDArray[Any]]
Range = tuple[int, int]
# So often a block may fail at a server that answers: by its deadline, or because there was never room for it.
MOST_FAILURES = 3


@dataclass(order=True, slots=True)
class DealtBlock:
    """number: in the file's order, from 0. range: [start, stop) of its items. outcome: None before its end."""

    number: int
    range: Range = field(compare=False)
    arrays: Arrays = field(compare=False, default_factory=dict)
    outcome: Result | Exception | None = field(compare=False, default=None)
    failures: int = field(compare=False, default=0)


class Deal:
    """Thread-safe: one thread takes the results, any others blocks.

    read: reads a block; by one thread at a time, in order. most: blocks that are read and not yet taken as results.
    """

    def __init__(self, ranges: Iterator[Range], read: Callable[[Range], Arrays], most: int) -> None:
        self._ranges = ranges
        self._read = read
        self._most = most
        self._reading = threading.Lock()
        self._changed = threading.Condition()
        self._again: list[DealtBlock] = []
        self._ended: dict[int, DealtBlock] = {}
        self._begun = self._given = 0
        self._all_read = self._over = False
        # Since when nobody is there to take a block, and why.
        self._deserted_s: float | None = None
        self._why: Error | None = None

    def take(self) -> DealtBlock | None:
        """The next block to be computed, once there is one; None when all is over."""
        with self._reading:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._over or self._again or self._wants)
                    if self._over:
                        return None
                    if self._again:
                        return heapq.heappop(self._again)
                    found = next(self._ranges, None)
                    if found is None:
                        self._all_read = True
                        self._changed.notify_all()
                        continue
                    block = DealtBlock(self._begun, found)
                    self._begun += 1
                try:
                    block.arrays = self._read(found)
                except Exception as error:
                    self.end(block, error)
                else:
                    return block

    @property
    def _wants(self) -> bool:
        return not self._all_read and self._begun - self._given < self._most

    def end(self, block: DealtBlock, outcome: Result | Exception) -> None:
        """Its result, or what the reader of the results gets in its place."""
        with self._changed:
            block.outcome = outcome
            self._ended[block.number] = block
            self._changed.notify_all()

    def give_back(self, block: DealtBlock, error: Error, *, at_fault: bool) -> None:
        """Another is to compute it. at_fault: whether that may be the block's own fault, so that it fails for good."""
        block.failures += at_fault
        if block.failures >= MOST_FAILURES:
            self.end(block, error)
            return
        with self._changed:
            heapq.heappush(self._again, block)
            self._changed.notify_all()

    def desert(self, error: Error | None) -> None:
        """Nobody is left to take a block, because of `error`; None: somebody is there again."""
        with self._changed:
            self._deserted_s, self._why = (None if error is None else time.monotonic()), error
            self._changed.notify_all()

    def pause(self, seconds: float) -> bool:
        """Waits so long, or until all is over; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._over, seconds)

    def results(self, patience_s: float) -> Iterator[DealtBlock]:
        """Each block with its result, in order; raises what one ended with.

        patience_s: how long nobody may be there, in seconds, before the reason is raised.
        """
        while (block := self._next(patience_s)) is not None:
            if isinstance(block.outcome, Exception):
                raise block.outcome
            yield block

    def _next(self, patience_s: float) -> DealtBlock | None:
        with self._changed:
            while self._given not in self._ended:
                if self._all_read and self._given == self._begun:
                    return None
                left_s = None
                if self._deserted_s is not None and self._why is not None:
                    left_s = self._deserted_s + patience_s - time.monotonic()
                    if left_s <= 0:
                        raise self._why
                self._changed.wait(left_s)
            block = self._ended.pop(self._given)
            self._given += 1
            self._changed.notify_all()
            return block

    def close(self) -> None:
        """Ends the waits of all."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
