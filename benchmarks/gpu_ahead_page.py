"""The compiler's table in docs/gpu.md, from what gpu_ahead.py found. Compiles nothing.

python benchmarks/gpu_ahead_page.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tables

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "docs/performance/gpu_ahead.json"
PAGE = ROOT / "docs/gpu.md"
SECTION = re.compile(r"(<!-- by benchmarks/gpu_ahead_page.py -->\n).*?(<!-- end -->\n)", re.DOTALL)
HEAD = ("kernel", "variants", "registers a thread", "bytes spilled a thread", "instructions", "read 16 bytes at a time")


def section(figures: Mapping[str, Any]) -> str:
    """figures: the document that gpu_ahead.py writes."""
    versions = ", ".join(f"{name} {number}" for name, number in figures["versions"].items())
    table = tables.table(HEAD, list(rows(figures["variants"])), "-:::::")
    return f"For {figures['target']}, by {versions}:\n\n{table}"


def rows(variants: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    """A row a kernel: the range over its variants."""
    for kernel in dict.fromkeys(one["kernel"] for one in variants):
        those = [one for one in variants if one["kernel"] == kernel]
        ranges = (_range([one[what] for one in those]) for what in ("registers", "spilled_bytes", "instructions"))
        narrow = sum(one["wide_loads"] == 0 for one in those)
        wide = {0: "all", len(those): "none"}.get(narrow, f"all but {narrow}")
        yield f"`{kernel}`", str(len(those)), *ranges, wide


def _range(counts: Sequence[int]) -> str:
    least, most = min(counts), max(counts)
    return f"{least:,}" if least == most else f"{least:,} – {most:,}"


def render(page: str, figures: Mapping[str, Any]) -> str:
    """The page with its table drawn anew."""
    drawn, count = SECTION.subn(lambda found: found[1] + section(figures) + found[2], page)
    if count != 1:
        raise ValueError(f"{PAGE.name} has {count} places for the table, not one")
    return drawn


def main() -> None:
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8"), figures), encoding="utf-8")


if __name__ == "__main__":
    main()
