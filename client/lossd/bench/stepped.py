"""Measures an awaitable from outside: its computing time before its first and after its last wait."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Stepped(Generic[T]):
    """`await Stepped(awaitable, clock)` returns what the awaitable returns.

    first_s: computing time before its first wait. last_s: computing time after its last wait; 0 if it never waited.
    """

    def __init__(self, awaitable: Awaitable[T], clock: Callable[[], float]) -> None:
        self._awaitable = awaitable
        self._clock = clock
        self.first_s = 0.0
        self.last_s = 0.0

    def __await__(self) -> Generator[Any, Any, T]:
        clock = self._clock
        start_s = clock()
        steps: Any = self._awaitable.__await__()
        try:
            awaited = steps.send(None)
        except StopIteration as end:
            self.first_s = clock() - start_s
            return end.value  # type: ignore[no-any-return]  # what a generator returns has no type here
        self.first_s = clock() - start_s
        while True:
            try:
                sent = yield awaited
            except BaseException as error:
                awaited = steps.throw(error)
                continue
            start_s = clock()
            try:
                awaited = steps.send(sent)
            except StopIteration as end:
                self.last_s = clock() - start_s
                return end.value  # type: ignore[no-any-return]
