"""Load: what a client process asks next, and a record of how each operation ended."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from chaos.history import Record
from chaos.operations import LOSSES, Operation, digest, table
from chaos.routes import Route, Way, ways
from chaos.watch import Watch

# Seconds for an operation with its repetitions, and beyond them until it is said to hang: a busy machine, a garbage
# collection, a thread that gets no turn.
TIMEOUT_S = 20.0
GRACE_S = 25.0
# The most that a map may take, which has its timeout for each step anew.
MAP_S = 120.0
LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Spec:
    """What a client process is told. expected: digests by the operation's number. impossible: see `routes.ways`."""

    name: str
    seed: str
    table_seed: int
    most_bytes: int
    routes: tuple[Route, ...]
    expected: tuple[str, ...]
    impossible: frozenset[tuple[int, str]]

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("name", "seed", "table_seed", "most_bytes", "expected")} | {
            "routes": [one.as_json() for one in self.routes],
            "impossible": sorted(self.impossible),
        }

    @classmethod
    def of_json(cls, told: dict[str, Any]) -> Spec:
        return cls(
            **told
            | {
                "routes": tuple(Route(**one) for one in told["routes"]),
                "expected": tuple(told["expected"]),
                "impossible": frozenset((number, way) for number, way in told["impossible"]),
            }
        )


@dataclass(frozen=True, slots=True)
class Draw:
    """One operation that is to be asked for. items: of a map, else the one. ours: see Record."""

    route: Route
    items: tuple[Operation, ...]
    way: Way
    timeout_s: float = TIMEOUT_S
    ours: str = ""
    cancel_after_s: float = 0.0

    @property
    def operation(self) -> Operation:
        return self.items[0]

    @property
    def options(self) -> dict[str, Any]:
        """Of the client's method: the loss's, and how it goes."""
        transport = "auto" if self.way == "small" else self.way
        return {**self.operation.options, "transport": transport, "timeout": self.timeout_s}

    @property
    def bound_s(self) -> float:
        return (MAP_S if self.way == "map" else self.timeout_s) + GRACE_S


@dataclass(slots=True)
class Load:
    """Of one process: its table, its watch, and where its records go."""

    spec: Spec
    table: list[Operation] = field(init=False)
    watch: Watch[tuple[Draw, float]] = field(init=False)
    over: threading.Event = field(default_factory=threading.Event)
    hung: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.table = table(self.spec.table_seed, self.spec.most_bytes)
        self.watch = Watch(time.monotonic, LOOK_S)

    def draw(self, route: Route, rng: random.Random, cancels: bool) -> Draw:
        """cancels: whether the caller can cancel what it awaits."""
        large = [one for one in self.table if not one.is_small]
        if rng.random() < 0.08:
            method = rng.choice(LOSSES)
            of_method = [one for one in self.table if one.is_small and one.method == method]
            return Draw(route, tuple(rng.choice(of_method) for _ in range(rng.randrange(2, 150))), "map")
        small = not large or rng.random() < 0.85
        operation = rng.choice([one for one in self.table if one.is_small] if small else large)
        found = Draw(route, (operation,), rng.choice(ways(route, operation, set(self.spec.impossible))))
        chance = rng.random()
        if chance < 0.05:
            return replace(found, ours="deadline", timeout_s=10 ** rng.uniform(-4, -0.5))
        if chance < 0.10 and cancels:
            return replace(found, ours="cancel", cancel_after_s=10 ** rng.uniform(-4, -0.7))
        return found

    def begin(self, draw: Draw) -> tuple[int, float]:
        """What `answered` and `failed` want."""
        start = time.monotonic()
        return self.watch.begin((draw, start), draw.bound_s), start

    def answered(self, draw: Draw, begun: tuple[int, float], answer: Any) -> None:
        """answer: of a map, an iterable of results and errors."""
        answers = list(answer) if draw.way == "map" else [answer]
        if not self.watch.end(begun[0]):
            return
        right = 0
        for item, one in zip(draw.items, answers, strict=False):
            if isinstance(one, Exception):
                self._error(draw, item, begun[1], one, closed=False)
            elif digest(one) == self.spec.expected[item.number]:
                right += 1
            else:
                self._put(draw, item, begun[1], "wrong", said="the answer's bytes differ")
        if len(answers) != len(draw.items):
            self._put(draw, draw.operation, begun[1], "wrong", said=f"{len(answers)} answers of {len(draw.items)}")
        if right:
            self._put(draw, draw.operation, begun[1], "right", count=right)

    def failed(self, draw: Draw, begun: tuple[int, float], error: BaseException, closed: bool) -> None:
        """closed: whether this process has closed the client meanwhile."""
        if self.watch.end(begun[0]):
            self._error(draw, draw.operation, begun[1], error, closed)

    def look(self) -> None:
        """Records what hangs."""
        for draw, start in self.watch.overdue():
            self.hung = True
            self._put(draw, draw.operation, start, "hung", said=f"not over after {draw.bound_s:.0f} s")

    def say(self, line: str) -> None:
        with self._lock:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    def _error(self, draw: Draw, item: Operation, start: float, error: BaseException, closed: bool) -> None:
        reason = getattr(error, "reason", "")
        by_us = closed and reason == "CLIENT_CLOSED"
        self._put(
            draw,
            item,
            start,
            "cancelled" if type(error).__name__ == "CancelledError" else type(error).__name__,
            ours="close" if by_us else draw.ours,
            reason=reason,
            said=str(error)[:300],
            retry=getattr(error, "retry_after_s", None) is not None,
        )

    def _put(self, draw: Draw, item: Operation, start: float, outcome: str, **more: Any) -> None:
        record = Record(
            client=self.spec.name,
            number=item.number,
            operation=str(item),
            way=draw.way,
            route=draw.route.name,
            server=draw.route.server,
            proxied=draw.route.proxied,
            start=start,
            end=time.monotonic(),
            outcome=outcome,
            **{"ours": draw.ours} | more,
        )
        self.say(record.line())


def called(client: Any, draw: Draw) -> Any:
    """The call of either client: a value or an awaitable; of a map, an iterator."""
    if draw.way == "map":
        items: Iterable[Any] = [one.item for one in draw.items]
        return client.map(draw.operation.method, items, errors="yield", timeout=draw.timeout_s)
    return getattr(client, draw.operation.method)(*draw.operation.operands, **draw.options)


def opened(client: Any, route: Route) -> Any:
    """A client of that class. The first answer may be long in coming: a server may just have been killed."""
    return client(route.address, timeout=TIMEOUT_S, connect_timeout=TIMEOUT_S, **route.options())
