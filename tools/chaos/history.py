"""History of a run: what was asked, when, how it ended, and which faults there were meanwhile. JSON, a line each."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from math import inf
from pathlib import Path
from typing import Any

# A lost connection is looked for again within 2 s, and a repeated call waits as long: a fault is felt that much longer.
FELT_S = 5.0


@dataclass(frozen=True, slots=True)
class Record:
    """One operation that ended, or hangs. Times: CLOCK_MONOTONIC, which all processes share.

    outcome: right, wrong, hung, cancelled, or the class of the error. ours: "deadline", "cancel" or "close" where the
    client itself was to end it early. count: items of a map. retry: whether an error said when to come back.
    """

    client: str
    number: int
    operation: str
    way: str
    route: str
    server: str
    start: float
    end: float
    outcome: str
    proxied: bool = False
    ours: str = ""
    reason: str = ""
    said: str = ""
    retry: bool = False
    count: int = 1

    def line(self) -> str:
        return json.dumps({name: value for name, value in asdict(self).items() if value != "" and value is not False})

    @classmethod
    def read(cls, line: str) -> Record:
        """Raises ValueError, TypeError where the line was cut short."""
        return cls(**json.loads(line))


@dataclass(slots=True)
class Fault:
    """One fault. target: the server, "proxy/SERVER" or the client that it was done to, "" for all."""

    kind: str
    target: str
    start: float
    end: float = inf
    detail: str = ""

    def touches(self, record: Record) -> bool:
        """Whether the operation may have felt it."""
        if not (self.start <= record.end and record.start <= self.end + FELT_S):
            return False
        if self.target.startswith("proxy/"):
            return record.proxied and record.server == self.target.removeprefix("proxy/")
        return self.target in ("", record.server, record.client)


@dataclass(slots=True)
class Faults:
    """Those of a run, told by several threads."""

    all: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            self.all.append(fault)
        return fault

    def touching(self, record: Record) -> list[Fault]:
        with self._lock:
            return [one for one in self.all if one.touches(record)]


def keep(path: Path, seed: int, command: str, records: Iterable[Record], faults: Faults) -> None:
    """Writes a history: the first line says how to run it again."""
    with path.open("w", encoding="utf-8") as file:
        for line in _lines(seed, command, records, faults):
            file.write(line + "\n")


def _lines(seed: int, command: str, records: Iterable[Record], faults: Faults) -> Iterator[str]:
    yield json.dumps({"seed": seed, "command": command})
    for fault in sorted(faults.all, key=lambda one: one.start):
        told: dict[str, Any] = asdict(fault)
        told["end"] = None if fault.end == inf else fault.end
        yield json.dumps({"fault": told})
    for record in sorted(records, key=lambda one: one.start):
        touching = sorted({one.kind for one in faults.touching(record)}) if record.outcome != "right" else []
        yield json.dumps(json.loads(record.line()) | ({"faults": touching} if touching else {}))
