"""Report of a run: tables by way, by route and by fault, and what was wrong."""

from __future__ import annotations

import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from chaos import history
from chaos.history import FELT_S, Fault, Faults, Record
from chaos.verdict import Verdict, judged

VERDICTS: tuple[Verdict, ...] = ("right", "excused", "wrong", "hung")
MOST_SHOWN = 20


class Tally:
    """Counts every record, keeps those that are not right, and how many there were of each kind."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.checked = 0

    def add(self, record: Record) -> None:
        self.records.append(record)
        self.checked += record.count


@dataclass(frozen=True, slots=True)
class Told:
    """What a run found. command: runs it again. wrong: sentences, beside the verdicts on operations."""

    seed: int
    command: str
    records: Sequence[Record]
    faults: Faults
    wrong: Sequence[str]

    def conclude(self, keep: Path, logs: Iterable[Path]) -> int:
        """Prints everything; the exit status. Where anything was wrong, a folder in `keep` has history and logs."""
        found = verdicts(self.records, self.faults)
        print(tables(found, self.faults))
        bad = [one for one, verdict in found if verdict in ("wrong", "hung")]
        for record in bad[:MOST_SHOWN]:
            felt = sorted({one.kind for one in self.faults.touching(record)})
            print(f"WRONG: {record.line()} faults={felt}")
        for sentence in self.wrong[:MOST_SHOWN]:
            print(f"WRONG: {sentence}")
        counts = Counter(verdict for _, verdict in found)
        print(
            f"seed {self.seed}: {sum(one.count for one in self.records):,} operations checked,"
            f" {len(self.faults.all):,} faults, {counts['wrong']} wrong, {counts['hung']} hung,"
            f" {len(self.wrong)} left or leaked"
        )
        if not bad and not self.wrong:
            return 0
        kept = keep / f"chaos-{self.seed}-{int(time.time())}"
        kept.mkdir(parents=True)
        history.keep(kept / "history.jsonl", self.seed, self.command, self.records, self.faults)
        for log in logs:
            shutil.copy(log, kept)
        print(f"history: {kept / 'history.jsonl'}\nagain: {self.command}")
        return 1


def verdicts(records: Iterable[Record], faults: Faults) -> list[tuple[Record, Verdict]]:
    return [(one, judged(one, () if one.outcome == "right" else faults.touching(one))) for one in records]


def tables(judged_records: Sequence[tuple[Record, Verdict]], faults: Faults) -> str:
    """For a terminal."""
    by_way: dict[str, Counter[str]] = defaultdict(Counter)
    by_route: dict[str, Counter[str]] = defaultdict(Counter)
    by_outcome: Counter[str] = Counter()
    for record, verdict in judged_records:
        by_way[record.way][verdict] += record.count
        by_route[record.route][verdict] += record.count
        if verdict != "right":
            by_outcome[f"{record.outcome} {record.reason}".strip()] += record.count
    parts = [_table("way", by_way), _table("route", by_route), _by_fault(judged_records, faults)]
    parts.append("\n".join(f"{count:9,}  {name}" for name, count in by_outcome.most_common(20)))
    return "\n\n".join(parts)


def _table(name: str, counts: dict[str, Counter[str]], more: dict[str, int] | None = None) -> str:
    head = [f"{name:24}", *(["times"] if more else []), *VERDICTS]
    lines = ["".join([head[0], *(f"{one:>10}" for one in head[1:])])]
    for key in sorted(counts):
        cells = [f"{more[key]:10,}"] if more else []
        cells += [f"{counts[key][one]:10,}" for one in VERDICTS]
        lines.append(f"{key:24}" + "".join(cells))
    return "\n".join(lines)


def _by_fault(judged_records: Sequence[tuple[Record, Verdict]], faults: Faults) -> str:
    """Operations that may have felt each kind. One that felt three kinds counts in three lines."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    times: dict[str, int] = Counter(one.kind for one in faults.all)
    by_second = _by_second(faults.all)
    for record, verdict in judged_records:
        near = {id(one): one for second in _seconds(record.start, record.end) for one in by_second.get(second, ())}
        for kind in {one.kind for one in near.values() if one.touches(record)}:
            counts[kind][verdict] += record.count
    for kind in times:
        counts[kind] += Counter()
    return _table("fault", counts, times)


def _by_second(faults: Iterable[Fault]) -> dict[int, list[Fault]]:
    found: dict[int, list[Fault]] = defaultdict(list)
    for one in faults:
        for second in _seconds(one.start, min(one.end, one.start + 600) + FELT_S):
            found[second].append(one)
    return found


def _seconds(start: float, end: float) -> range:
    return range(int(start), int(end) + 1)
