"""Writes docs/performance.md from the figures of performance.py. Measures nothing."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gpu_page
import overview
import tables
from goals import GOALS, Goal
from machine import BUSY_LOAD

GPU = "gpu.json"
Parts = Mapping[str, Mapping[str, Any]]
# By part: the name in docs/pictures, and what it shows. plots.py draws them.
PICTURES = {
    "small": ("performance-load", "Throughput and latency of small requests by load: lossd, Triton, an echo server"),
    "memory": ("performance-memory", "Resident memory of the server while a long stream passes"),
    "batch": ("performance-batch", "Cost of a small request by the size of its batch: lossd and torch"),
    "sizes": ("performance-sizes", "Cost and throughput of an evaluation by its size, by every transport and peer"),
}
HEAD = """\
# Performance
"""
HOW = """\
## How this was measured

One command measures lossd and its peers in turns on one machine, and writes this page:

```
make performance
```

Compare ratios, since absolute times are those of one machine on one day. A figure is the median of at least five \
alternated rounds. Client and server share the cores, nothing is pinned, and every answer was compared with float64. \
[What the peers are](../benchmarks/README.md#performancepy-everything-beside-its-peers); \
[the figures as JSON](performance).
"""


def load(results: Path) -> Parts:
    """By part: what was found, and what surrounded it. The GPU's files are other programs', of other machines."""
    files = [path for path in sorted(results.glob("*.json")) if not path.name.startswith("gpu")]
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}


def load_gpu(results: Path) -> dict[str, Any] | None:
    """What benchmarks/gpu.py found, None where it has not run."""
    file = results / GPU
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def reasons(results: Path) -> dict[str, str]:
    """By goal: why it was missed."""
    file = results / "reasons.toml"
    return tomllib.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def text(parts: Parts, why: Mapping[str, str], gpu: Mapping[str, Any] | None = None) -> str:
    sections = [HEAD, *overview.section(parts), HOW, *around(parts), *goals(parts, why)]
    for part, section in tables.SECTIONS.items():
        if part in parts:
            sections.append(section(parts[part]["found"]))
            if part in PICTURES:
                name, alt = PICTURES[part]
                sections.append(f"![{alt}](pictures/{name}.svg)\n")
            sections += failures(parts[part]["found"])
    sections.append(gpu_page.section(gpu))
    return "\n".join(sections)


def summary(results: Path) -> str:
    """Every goal beside its figure, for a terminal."""
    parts = load(results)
    rows = [(goal.what, goal.asked, *read(goal, parts)) for goal in GOALS]
    return "\n".join(f"{what:<100}{asked:<28}{figure:<58}{verdict.strip('*')}" for what, asked, figure, verdict in rows)


def around(parts: Parts) -> Iterator[str]:
    """Machine, versions, date and command of each run whose figures are here."""
    yield "## Machine, versions, date\n"
    seen: dict[str, list[str]] = {}
    for part, whole in parts.items():
        seen.setdefault(json.dumps(whole["around"], sort_keys=True), []).append(part)
    for text, names in seen.items():
        it = json.loads(text)
        of = "everything" if len(seen) == 1 else ", ".join(names)
        rows = {
            "measured": f"{of}, on {it['date']}, by `{it['command']}`"
            + (f", at {it['commit']}" if it["commit"] else ""),
            "processor": f"{it['processor']}, {it['threads']} threads",
            "memory": f"{it['read_gb_per_s']:.1f} GB/s read, {it['copy_gb_per_s']:.1f} GB/s copied (read + written)",
            "versions": ", ".join(f"{name} {number}" for name, number in it["versions"].items()),
            "peers": ", ".join(f"{name} {number}" for name, number in it["peers"].items()),
        }
        yield tables.table(("", ""), list(rows.items()), "--")
        if it["load"] > BUSY_LOAD:
            yield f"**The machine was busy (load {it['load']:.1f} at the start): these figures are not reliable.**\n"
    if quick := [part for part, whole in parts.items() if whole["quick"]]:
        yield f"**Measured with `--quick`, which only shows that it works: {', '.join(quick)}.**\n"


def goals(parts: Parts, why: Mapping[str, str]) -> Iterator[str]:
    """Every goal with its figure; below, why some are missed."""
    rows: list[tuple[str, ...]] = []
    walls: list[str] = []
    for goal in GOALS:
        figure, verdict = read(goal, parts)
        if verdict == "**missed**":
            walls.append(f"{len(walls) + 1}. *{goal.what}:* {why.get(goal.name, 'the reason is not known yet.')}")
            verdict += f" ({len(walls)})"
        rows.append((goal.what, goal.asked, figure, verdict))
    yield "## Goals\n"
    yield tables.table(("what", "goal", "measured", ""), rows, "----")
    if walls:
        yield "Why some are missed:\n"
        yield "\n".join(walls) + "\n"


def read(goal: Goal, parts: Parts) -> tuple[str, str]:
    """The goal's figure and verdict."""
    if goal.part not in parts:
        return "–", "not measured"
    try:
        found = goal.read(parts[goal.part]["found"])
    except (KeyError, TypeError, IndexError, StopIteration, ValueError):
        return "–", "not measured"
    return found.figure, "met" if found.met else "**missed**"


def failures(found: Mapping[str, Any]) -> Iterator[str]:
    """Why peers could not be measured."""
    rows: Sequence[Mapping[str, Any]] = [
        found,
        *found.get("figures", []),
        *found.get("h2load", []),
        *found.get("own", []),
    ]
    said = sorted({f"{name}: {why}" for row in rows for name, why in row.get("failed", {}).items()})
    if said:
        yield "Not measured: " + "; ".join(said) + ".\n"
