"""What a process holds over time, and whether that grows: the median of all slopes, which no single load bends."""

from __future__ import annotations

import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

# Of a run's begin, in which a process becomes warm.
WARM_PART = 1 / 3
# Growth that is none, over all the rest of a run: a large answer more or less under way, pools that a rare request
# makes, some regions of shared memory. Resident memory has the regions of clients, too, and is only shown.
FLAT = {"rss_mib": inf, "anon_mib": 48.0, "descriptors": 8.0, "memfds": 8.0, "threads": 3.0, "inflight_mib": 16.0}
SAMPLES = 300
# A shorter run says too little of its slope.
JUDGED_S = 240.0


def slope(times: Sequence[float], values: Sequence[float]) -> float:
    """Theil and Sen's: the median of the slopes of all pairs."""
    found = [
        (values[b] - values[a]) / (times[b] - times[a])
        for a in range(len(times))
        for b in range(a + 1, len(times))
        if times[b] > times[a]
    ]
    return statistics.median(found) if found else 0.0


@dataclass(slots=True)
class Trend:
    """Samples of every process, by a thread. look: what each holds now, by its number."""

    look: Callable[[], Mapping[int, Mapping[str, float]]]
    seconds: float
    samples: dict[int, list[tuple[float, Mapping[str, float]]]] = field(default_factory=lambda: defaultdict(list))
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def begin(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(max(0.5, self.seconds / SAMPLES)):
            now = time.monotonic()
            for pid, held in self.look().items():
                self.samples[pid].append((now, held))

    def report(self) -> tuple[list[str], list[str]]:
        """Lines of a table, and what grows."""
        lines = [f"{'process':>9} {'what':14}{'start':>10}{'end':>10}{'an hour':>12}"]
        growing = []
        for pid, samples in self.samples.items():
            warm = samples[int(len(samples) * WARM_PART) :]
            if len(warm) < 2:
                continue
            times = [at for at, _ in warm]
            lasted = times[-1] - times[0]
            for name, most in FLAT.items():
                values = [held[name] for _, held in warm]
                a_second = slope(times, values)
                edge = max(1, len(values) // 10)
                first, last = statistics.median(values[:edge]), statistics.median(values[-edge:])
                lines.append(f"{pid:9} {name:14}{first:10.1f}{last:10.1f}{3600 * a_second:+12.2f}")
                if a_second * lasted > most and self.seconds >= JUDGED_S:
                    growing.append(f"{name} of {pid} grows by {a_second * lasted:.1f} in {lasted:.0f} s")
        return lines, growing
