"""The pictures of docs/performance.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import matplotlib.pyplot as plt
from style import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILLION, save

from page import PICTURES

Figures = Mapping[str, Any]
COLOURS = {"lossd": BLUE, "triton": VERMILLION, "triton, one thread": ORANGE, "echo": GREY, "torch": GREEN}
NAMES = {
    "lossd": "lossd",
    "triton": "Triton, Python backend",
    "triton, one thread": "the same, one torch thread",
    "echo": "bare gRPC echo",
    "torch": "torch, one by one",
}


def panels(count: int) -> Any:
    return plt.subplots(1, count, figsize=(4.2 * count, 2.9), layout="constrained")


def load(found: Figures) -> Any:
    """Calls per second, and p50 and p99, over the concurrency."""
    figure, (left, right) = panels(2)
    for name in ("lossd", "triton", "triton, one thread", "echo"):
        rows = [(row["concurrency"], row["peers"][name]) for row in found["h2load"] if name in row["peers"]]
        at = [concurrency for concurrency, _ in rows]
        left.plot(at, [it["per_s"] / 1e3 for _, it in rows], "o-", color=COLOURS[name], label=NAMES[name])
        right.plot(at, [it["p50_s"] * 1e3 for _, it in rows], "o-", color=COLOURS[name], label=NAMES[name])
        right.plot(at, [it["p99_s"] * 1e3 for _, it in rows], "o:", color=COLOURS[name])
    for axes in (left, right):
        axes.set(xscale="log", xlabel="requests under way", xticks=(1, 32, 128), xticklabels=("1", "32", "128"))
        axes.minorticks_off()
    left.set(ylim=(0, None), ylabel="thousand requests/s", title="Throughput by load")
    right.set(yscale="log", ylabel="ms", title="Latency by load: p50, and p99 dotted")
    right.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def memory(found: Figures) -> Any:
    """The server's resident memory over the bytes that have passed, if they passed at one speed."""
    figure, axes = plt.subplots(figsize=(6, 2.6), layout="constrained")
    at, rss = zip(*found["samples"], strict=True) if found["samples"] else ((), ())
    gigabytes = found["streamed_bytes"] / 1e9
    speed = gigabytes / found["taken"]["seconds"] if found["taken"] else 0
    axes.plot([seconds * speed for seconds in at], [value / 1e6 for value in rss], color=BLUE, label="lossd's server")
    axes.axhline(found["idle"] / 1e6, color=GREY, linestyle="--", linewidth=1, label="idle")
    axes.axhline(found["idle"] / 1e6 + 300, color=VERMILLION, linestyle=":", linewidth=1, label="goal: 300 MB above")
    axes.set(
        ylim=(0, None),
        xlabel="GB streamed",
        ylabel="MB resident",
        title=f"Memory while {gigabytes:.0f} GB stream through",
    )
    axes.legend(loc="lower center", ncols=3)
    return figure


def batch(found: Figures) -> Any:
    """Microseconds of a request over the requests of a batch."""
    figure, both = panels(2)
    for axes, gradient in zip(both, (False, True), strict=True):
        rows = [row for row in found["figures"] if row["gradient"] == gradient]
        at = [row["requests"] for row in rows]
        for name in ("lossd", "torch"):
            cost = [row["seconds"][name] / row["requests"] * 1e6 for row in rows]
            axes.plot(at, cost, "o-", color=COLOURS[name], label=NAMES[name])
        axes.set(xscale="log", xlabel="requests in a batch", ylim=(0, None), ylabel="µs a request")
        axes.set_title("loss + gradient" if gradient else "loss")
        axes.set(xticks=at, xticklabels=[str(value) for value in at])
        axes.minorticks_off()
    both[0].legend()
    return figure


def sizes(found: Figures) -> Any:
    """Seconds and GB/s over the bytes of a request."""
    figure, (left, right) = panels(2)
    names = list(dict.fromkeys(name for row in found["figures"] for name in row["seconds"]))
    for name, colour in zip(names, (BLUE, PURPLE, GREEN, GREY, VERMILLION, ORANGE), strict=False):
        rows = [(row["nbytes"], row["seconds"][name]) for row in found["figures"] if name in row["seconds"]]
        at = [nbytes / 1e6 for nbytes, _ in rows]
        left.plot(at, [seconds * 1e3 for _, seconds in rows], "o-", color=colour, label=name)
        right.plot(at, [nbytes / seconds / 1e9 for nbytes, seconds in rows], "o-", color=colour, label=name)
    left.set(xscale="log", yscale="log", xlabel="MB of logits and labels", ylabel="ms a call", title="Cost by size")
    right.set(xscale="log", yscale="log", xlabel="MB of logits and labels", ylabel="GB/s", title="Throughput by size")
    right.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


DRAWN: dict[str, Callable[[Figures], Any]] = {"small": load, "memory": memory, "batch": batch, "sizes": sizes}


def draw(parts: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes the picture of each part that has one to docs/pictures."""
    for part, (name, _) in PICTURES.items():
        if part in parts:
            save(DRAWN[part](parts[part]["found"]), name)
