"""The figures of docs/transports.md, between its two comments, from those of performance.py."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import overview
import tables

Parts = Mapping[str, Mapping[str, Any]]
BETWEEN = re.compile(r"(?<=<!-- figures -->\n).*?(?=<!-- end of figures -->)", re.DOTALL)
# The part `sizes`: its names, and those of the page.
WAYS = {
    "lossd, TCP": "TCP",
    "lossd, shared memory, copied in": "shared memory, copied in",
    "lossd, client.empty": "`client.empty`",
    overview.EAGER: "PyTorch, in process",
}


def filled(page: str, parts: Parts) -> str:
    """The page with the tables of what was measured."""
    shown = "\n".join(["", *sections(parts), ""])
    return BETWEEN.sub(lambda _: shown, page)


def sections(parts: Parts) -> Iterator[str]:
    if "sizes" in parts:
        found = parts["sizes"]["found"]
        yield f"Loss of (N, {found['classes']}) float32 logits, whole calls, beside PyTorch in your own process:\n"
        rows = [
            (f"{overview.megabytes(one['nbytes'])} MB", *(tables.duration(one["seconds"].get(way)) for way in WAYS))
            for one in found["figures"]
        ]
        yield tables.table(("size", *WAYS.values()), rows, ":" * (1 + len(WAYS)))
    rows = list(small(parts))
    if rows:
        yield "Evaluations of (8, 16) float32, which is 512 bytes:\n"
        yield tables.table(("way", "a second"), rows, "-:")


def small(parts: Parts) -> Iterator[tuple[str, str]]:
    for row in parts["small"]["found"]["own"] if "small" in parts else ():
        at_once = row["concurrency"]
        way = "one call at a time" if at_once == 1 else f"`lossd.aio.Client`, {at_once} at once"
        yield way, tables.rate(row["peers"].get("lossd"))
    if "map" in parts:
        yield "`client.map`", tables.rate(parts["map"]["found"]["lossd"])
