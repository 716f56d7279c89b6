"""The GPU part of docs/performance.md, from what gpu.py found. Measures nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tables

UNMEASURED = """\
## GPU

Not measured: no GPU was at hand. [`benchmarks/gpu_all.sh`](gpu.md#measuring-one) is ready to run, and \
[what the compiler makes of the kernels](gpu.md) is known.
"""
# By part of gpu.py: what it shows.
TITLES = {
    "copy": "A copy on the device",
    "kernels": "Cross-entropy by index",
    "peers": "The same tensors by others",
    "ragged": "Ragged requests",
    "elementwise": "Elementwise losses",
    "requests": "Requests from host memory and back",
}


def section(found: Mapping[str, Any] | None) -> str:
    """found: the document that gpu.py writes, or None."""
    if found is None:
        return UNMEASURED
    machine = ", ".join(f"{name} {value}" for name, value in found["machine"].items())
    text = f"## GPU\n\nBy `benchmarks/gpu.py`, correctness first: {machine}.\n"
    for part, title in TITLES.items():
        rows = [row(entry) for entry in found["results"] if entry["part"] == part]
        if rows:
            text += f"\n{title}:\n\n"
            text += tables.table(("", "ms", "MB", "GB/s", "of the copy"), rows, "-::::")
    return text


def row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """A figure, or why there is none."""
    if "missing" in entry:
        return f"{entry['name']}, C = {entry['C']}, {entry['dtype']}", entry["missing"], "", "", ""
    figures = f"{entry['ms']:.3f}", f"{entry['bytes'] / 1e6:,.0f}", f"{entry['gbps']:,.0f}", f"{entry['of_copy']:.1%}"
    return entry["name"], *figures
