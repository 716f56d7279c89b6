"""The first screen of docs/performance.md: when lossd is fast, for a user, from the figures of performance.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tables

Figures = Mapping[str, Any]
Row = tuple[str, str, str, str, str]
ALONE = "PyTorch in your own process"
TRITON = "Triton Inference Server"
# The part `sizes`: its name of PyTorch without a server, and of two transports.
EAGER = "torch eager, in process"
TRANSPORTS = {
    "lossd, shared memory, copied in": "a server on the same host",
    "lossd, TCP": "a server elsewhere (TCP over the loopback)",
}


def section(parts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """parts: as `page.load` gives them. Nothing where no part has a figure for it."""
    rows = [row for part, read in ROWS.items() if part in parts for row in read(parts[part]["found"])]
    if not rows:
        return
    yield "## When is lossd fast for me?\n"
    if "sizes" in parts:
        yield break_even(parts["sizes"]["found"])
    yield tables.table(("what you have", "what to use", "lossd", "for comparison", "times as fast"), rows, "----:")
    around = next(iter(parts.values()))["around"]
    yield (
        f"Medians on {around['processor']}, {around['threads']} threads, which client and server share. "
        "[Transports](transports.md) says which way a call travels.\n"
    )


def shared(found: Figures) -> Iterator[Row]:
    for gradient, way, use in (
        (False, "lossd, client.empty", "`client.empty`"),
        (True, "lossd, client.empty", "`client.empty`"),
        (False, "lossd, copied in", "any array"),
    ):
        seconds = found["figures"][gradient]["seconds"]
        if way in seconds and "torch eager" in seconds:
            have = f"{_large(found)}, server on the same host: {tables.what(gradient)}"
            theirs = seconds["torch eager"]
            yield have, use, *_times(seconds[way], ALONE, theirs)


def large(found: Figures) -> Iterator[Row]:
    figure = [one for one in found["figures"] if not one["gradient"]][-1]
    seconds = figure["seconds"]
    if "lossd" in seconds and "triton" in seconds:
        have = f"{_large(figure)}, server elsewhere: {tables.what(gradient=False)}"
        yield have, "any array", *_times(seconds["lossd"], TRITON, seconds["triton"])


def many(found: Figures) -> Iterator[Row]:
    medians = [burst["median"] for burst in found["bursts"].values()]
    if found["lossd"] and medians:
        have = "many small evaluations, (8, 16)"
        yield have, "`client.map`", *_rates(found["lossd"]["per_s"], TRITON, max(medians))


def small(found: Figures) -> Iterator[Row]:
    by_load = {row["concurrency"]: row["peers"] for row in found["own"]}
    for concurrency, have, use in (
        (max(by_load), f"{max(by_load)} small calls at a time, (8, 16)", "`lossd.aio.Client`"),
        (1, "one small call at a time, (8, 16)", "lossd only if PyTorch is not at hand"),
    ):
        peers = by_load.get(concurrency, {})
        triton = [figures["per_s"] for name, figures in peers.items() if name.startswith("triton")]
        if "lossd" in peers and triton:
            # Of Triton's two configurations the better one.
            yield have, use, *_rates(peers["lossd"]["per_s"], TRITON, max(triton))


ROWS: dict[str, Callable[[Figures], Iterator[Row]]] = {"shared": shared, "large": large, "map": many, "small": small}


def break_even(found: Figures) -> str:
    """From which of the measured sizes on lossd is faster than PyTorch in the caller's process, by transport."""
    lines = []
    for way, name in TRANSPORTS.items():
        slower = [figure["nbytes"] for figure in found["figures"] if figure["seconds"][way] >= figure["seconds"][EAGER]]
        faster = [figure for figure in found["figures"] if figure["nbytes"] > max(slower, default=0)]
        if faster:
            ours, theirs = (tables.duration(faster[0]["seconds"][one]) for one in (way, EAGER))
            size = megabytes(faster[0]["nbytes"])
            lines.append(f"- With {name}, lossd was faster than {ALONE} from {size} MB on: {ours} against {theirs}.")
    smallest = found["figures"][0]["seconds"]
    call, alone = (tables.duration(smallest[one]) for one in ("lossd, TCP", EAGER))
    lines.append(f"- A single small call takes a round trip, {call}, where {ALONE} needs {alone}.")
    sizes = ", ".join(megabytes(figure["nbytes"]) for figure in found["figures"])
    return "\n".join(lines) + f"\n\nThe sizes measured were {sizes} MB of float32, loss only.\n"


def megabytes(nbytes: float) -> str:
    """Of 10⁶ bytes: whole ones from 1 on, else two digits."""
    return f"{nbytes / 1e6:,.0f}" if nbytes >= 1e6 else f"{nbytes / 1e6:.2g}"


def _times(ours: float, name: str, theirs: float) -> tuple[str, str, str]:
    """Of calls, in seconds."""
    return tables.duration(ours), f"{name}: {tables.duration(theirs)}", f"{theirs / ours:.1f}×"


def _rates(ours: float, name: str, theirs: float) -> tuple[str, str, str]:
    """Of evaluations a second."""
    return f"{ours:,.0f} a second", f"{name}: {theirs:,.0f} a second", f"{ours / theirs:.1f}×"


def _large(figure: Figures) -> str:
    return f"({', '.join(map(str, figure['shape']))}) float32, {megabytes(figure['nbytes'])} MB"
