"""The tables of docs/performance.md: one section for each part of performance.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from goals import bare_bytes

Figures = Mapping[str, Any]
PEERS = {
    "lossd": "lossd",
    "triton": "Triton",
    "triton, one thread": "Triton, one torch thread",
    "echo": "bare echo",
}
UNITS = ((1, "s"), (1e-3, "ms"), (1e-6, "µs"))


def table(head: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    """Markdown. align: a sign for each column, `-` to the left, `:` to the right."""
    lines = [head, [{"-": "---", ":": "---:"}[sign] for sign in align], *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    unit, name = next(((unit, name) for unit, name in UNITS if seconds >= unit), UNITS[-1])
    return f"{seconds / unit:.3g} {name}"


def rate(figures: Mapping[str, float] | None) -> str:
    return f"{figures['per_s']:,.0f}" if figures else "–"


def gb_per_s(nbytes: float, seconds: float | None) -> str:
    return f"{nbytes / seconds / 1e9:.2f}" if seconds else "–"


def over(theirs: float | None, ours: float | None) -> str:
    return f"{theirs / ours:.2f}×" if theirs and ours else "–"


def what(gradient: bool) -> str:
    return "loss + gradient" if gradient else "loss"


def rates(rows: Sequence[Mapping[str, Any]]) -> str:
    """A row for each concurrency and peer."""
    head = ("concurrency", "", "requests/s", "best round", "p50", "p99")
    cells = []
    for row in rows:
        for name, it in row["peers"].items():
            times = (duration(it["p50_s"]), duration(it["p99_s"]))
            cells.append((str(row["concurrency"]), PEERS[name], rate(it), f"{it['best_per_s']:,.0f}", *times))
    return table(head, cells, ":-::::")


def small(found: Figures) -> str:
    return f"""\
## Small requests

Cross-entropy of (8, 16) float32 logits, unary, one connection, {found["calls"]:,} calls a round, driven by h2load. \
h2load sees only the HTTP status. So during each round the peer's own client samples and checks answers, and \
afterwards the server's count of results must have grown by exactly the number of calls. Triton is measured twice. By \
default, torch in its backend has a thread for each core, and small requests often wait tens of milliseconds for these \
threads; with one thread they do not.

{rates(found["h2load"])}
The same through each system's own asyncio client, from numpy arrays to a number, {found["own_calls"]:,} calls a round:

{rates(found["own"])}"""


def many(found: Figures) -> str:
    ours = rate(found["lossd"])
    rows = [(f"`client.map` over {found['mapped']:,} evaluations", ours, "")]
    for name, burst in found["bursts"].items():
        label = f"Triton, `{name.split(', ')[0]}`, {found['burst']:,} unary calls by h2load, {name.split(', ')[1]}"
        rows.append((label, f"{burst['median']:,.0f}", f"{burst['best']:,.0f}"))
    return f"""\
## Many small evaluations

{table(("(8, 16) float32, evaluations/s", "median", "best"), rows, "-::")}"""


def large(found: Figures) -> str:
    peers = ("lossd, stream", "Triton", "grpcio + torch", "bare bytes", "bare array")
    head = ("shape", "", *peers, "against Triton", "of bare bytes", "of bare array")
    rows = []
    for figure in found["figures"]:
        seconds, nbytes = figure["seconds"], figure["nbytes"]
        ours = seconds.get("lossd")
        bare = [None, None] if figure["gradient"] else [bare_bytes(seconds, of) for of in ("bytes", "array")]
        parts = [f"{one / ours:.0%}" if one and ours else "–" for one in bare]
        named = [gb_per_s(nbytes, seconds.get(name)) for name in ("lossd", "triton", "grpcio + torch")]
        shape = f"({', '.join(map(str, figure['shape']))})"
        named += [gb_per_s(nbytes, one) for one in bare]
        rows.append((shape, what(figure["gradient"]), *named, over(seconds.get("triton"), ours), *parts))
    return f"""\
## Large tensors over TCP

GB of inputs per second of a whole call, float32 over the loopback. `bare bytes` is a gRPC stream of bytes that nobody \
parses, the best of sync and asyncio, 1 and 4 MiB, with one message sent repeatedly from the cache. For `bare array`, \
each message is first copied out of an array of the whole size. With a gradient, as many bytes come back; they are not \
counted.

{table(head, rows, "--::::::::")}"""


def shared(found: Figures) -> str:
    shape = f"({', '.join(map(str, found['shape']))})"
    rows = []
    for figure in found["figures"]:
        eager = figure["seconds"].get("torch eager")
        for name, seconds in figure["seconds"].items():
            first = duration(figure["first"][name])
            rows.append(
                (
                    what(figure["gradient"]),
                    name,
                    first,
                    duration(seconds),
                    gb_per_s(found["nbytes"], seconds),
                    over(eager, seconds),
                )
            )
    return f"""\
## Same host, shared memory

{shape} float32. For lossd and Triton these are whole calls to a server; torch runs in the caller's own process. The \
first call includes the first use of new memory pages, and compiling where there is any.

{table(("", "", "first call", "later calls", "GB/s", "as fast as torch eager"), rows, "--::::")}"""


def memory(found: Figures) -> str:
    taken = found["taken"]
    speed = (
        f" in {taken['seconds']:.1f} s ({found['streamed_bytes'] / taken['seconds'] / 1e9:.2f} GB/s)" if taken else ""
    )
    most = max((rss for _, rss in found["samples"]), default=found["idle"])
    return f"""\
## Memory of the server while {found["streamed_bytes"] / 1e9:.0f} GB are streamed

One evaluation of a memory-mapped sparse file of zeros, over TCP{speed}. Resident memory was \
{found["idle"] / 1e6:.0f} MB before, after some small requests, and at most {most / 1e6:.0f} MB during the stream.
"""


def batch(found: Figures) -> str:
    rows = []
    for figure in found["figures"]:
        ours, theirs = (figure["seconds"][name] / figure["requests"] for name in ("lossd", "torch"))
        rows.append(
            (f"{figure['requests']:,}", what(figure["gradient"]), duration(ours), duration(theirs), over(theirs, ours))
        )
    return f"""\
## Cost of a request by its batch

Computing only, in one process: (8, 16) float32, requests in one batch; torch evaluates them one after another.

{table(("requests", "", "lossd, each", "torch, each", "ratio"), rows, ":-:::")}"""


def sizes(found: Figures) -> str:
    names = list(dict.fromkeys(name for figure in found["figures"] for name in figure["seconds"]))
    rows = [
        (f"{figure['nbytes'] / 1e6:,.3g} MB", *(duration(figure["seconds"].get(name)) for name in names))
        for figure in found["figures"]
    ]
    return f"""\
## Cost of a request by its size

One evaluation of (N, {found["classes"]}) float32, loss only, whole calls.

{table(("", *names), rows, ":" * (len(names) + 1))}"""


def kernels(found: Figures) -> str:
    rows = []
    for figure in found["figures"]:
        peer = "eager" if "eager" in figure["seconds"] else "float32"
        ours, theirs = figure["seconds"]["lossd"], figure["seconds"][peer]
        copy = f"{figure['gb_per_s'] / found['copy_gb_per_s']:.0%}"
        beside = "torch eager" if peer == "eager" else "float32"
        rows.append(
            (
                figure["case"],
                figure["what"],
                duration(ours),
                f"{beside} {duration(theirs)}",
                f"{figure['ratio']:.2f}×",
                copy,
            )
        )
    return f"""\
## Kernels

The CPU backend in one process, without messages or sockets. `copy` is the rate of the bytes that must be read and \
written, as a share of the rate of plain copies on this machine.

{table(("", "", "lossd", "beside", "ratio", "copy"), rows, "--::::")}"""


SECTIONS: dict[str, Callable[[Figures], str]] = {
    "small": small,
    "map": many,
    "large": large,
    "shared": shared,
    "memory": memory,
    "batch": batch,
    "sizes": sizes,
    "kernels": kernels,
}
