"""The goals of the CPU and of the transports: what is asked, and how to read it from the figures of performance.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Results = Mapping[str, Any]  # by part: what its measure found
Figures = Mapping[str, Any]
MEMORY_BYTES = 300e6
GROWTH = 1.1  # a cost that is called linear or better may differ by noise


@dataclass(frozen=True)
class Reading:
    """A goal's figure as the page shows it, and whether it is met."""

    figure: str
    met: bool


@dataclass(frozen=True)
class Goal:
    """name: what reasons.toml knows it by. read: KeyError where a peer has no figure."""

    name: str
    what: str
    asked: str
    part: str
    read: Callable[[Figures], Reading]


def times(ratio: float, asked: float) -> Reading:
    return Reading(f"{ratio:.2f}×", ratio >= asked)


def share(ratio: float, asked: float) -> Reading:
    return Reading(f"{ratio:.0%}", ratio >= asked)


def loaded(figures: Figures, concurrency: int, client: str = "h2load") -> Mapping[str, Mapping[str, float]]:
    row = next(row for row in figures[client] if row["concurrency"] == concurrency)
    peers: Mapping[str, Mapping[str, float]] = row["peers"]
    return peers


def against_triton(peer: str, concurrency: int, asked: float, figures: Figures) -> Reading:
    peers = loaded(figures, concurrency)
    ours, theirs = peers["lossd"], peers[peer]
    ratio = ours["per_s"] / theirs["per_s"]
    p99 = f"p99 {ours['p99_s'] * 1e3:.2f} against {theirs['p99_s'] * 1e3:.2f} ms"
    return Reading(f"{ratio:.2f}×, {p99}", ratio >= asked and ours["p99_s"] < theirs["p99_s"])


def against_echo(concurrency: int, figures: Figures) -> Reading:
    peers = loaded(figures, concurrency)
    return share(peers["lossd"]["per_s"] / peers["echo"]["per_s"], 0.75)


def own_clients(peer: str, concurrency: int, asked: float, figures: Figures) -> Reading:
    peers = loaded(figures, concurrency, "own")
    return times(peers["lossd"]["per_s"] / peers[peer]["per_s"], asked)


def mapped(figures: Figures) -> Reading:
    return times(figures["lossd"]["per_s"] / max(burst["best"] for burst in figures["bursts"].values()), 4)


def largest(figures: Figures) -> Mapping[str, float]:
    """Seconds of (1024, 32000), loss only."""
    found: Mapping[str, float] = [row for row in figures["figures"] if not row["gradient"]][-1]["seconds"]
    return found


def bare_bytes(seconds: Mapping[str, float], of: str = "bytes") -> float:
    """Seconds of the fastest bare stream: "bytes" that lie ready, or those copied out of an "array"."""
    return min(value for name, value in seconds.items() if name.startswith(of))


def tcp_triton(figures: Figures) -> Reading:
    seconds = largest(figures)
    return times(seconds["triton"] / seconds["lossd"], 10)


def tcp_bytes(figures: Figures) -> Reading:
    seconds = largest(figures)
    return share(bare_bytes(seconds) / seconds["lossd"], 0.85)


def in_memory(gradient: bool, ours: str, theirs: str, asked: float, figures: Figures) -> Reading:
    seconds = figures["figures"][gradient]["seconds"]
    return times(seconds[theirs] / seconds[ours], asked)


def flat(figures: Figures) -> Reading:
    if figures["failed"]:
        raise KeyError("lossd")
    above = max(rss for _, rss in figures["samples"]) - figures["idle"]
    return Reading(f"{above / 1e6:.0f} MB above idle at most", above < MEMORY_BYTES)


def kernel(what: str, figures: Figures) -> Reading:
    found = next(f for f in figures["figures"] if f["what"] == what and f["case"].endswith("32000)"))
    return times(found["ratio"], found["goal"])


def bandwidth(what: str, figures: Figures) -> Reading:
    found = next(f for f in figures["figures"] if f["what"] == what and f["case"].endswith("32000)"))
    return share(found["gb_per_s"] / figures["copy_gb_per_s"], 0.6)


CLASSES = [f"cross-entropy {shape}" for shape in ("(20000, 100)", "(4096, 1000)", "(8192, 4096)")]
FEW_CLASSES = ["cross-entropy (100000, 10)"]
ELEMENTS = ["BCE with logits (1e+07)", "KL of log probabilities (10000, 1000)", "entropy of logits (10000, 1000)"]


def of_cases(cases: list[str], what: str, asked: float, key: str, figures: Figures) -> Reading:
    """The least and the greatest of some cases. key: "ratio", to torch eager, or "compiled_ratio", to torch.compile."""
    ratios = [f[key] for f in figures["figures"] if f["what"] == what and f["case"] in cases]
    if not ratios or None in ratios:
        raise KeyError(key)
    return Reading(f"{min(ratios):.2f}× to {max(ratios):.2f}×", min(ratios) >= asked)


def copy_share(cases: list[str], what: str, asked: float, figures: Figures) -> Reading:
    """The least and the greatest share of the machine's copy bandwidth."""
    rates = [f["gb_per_s"] for f in figures["figures"] if f["what"] == what and f["case"] in cases]
    shares = [rate / figures["copy_gb_per_s"] for rate in rates]
    return Reading(f"{min(shares):.0%} to {max(shares):.0%}", min(shares) >= asked)


def ragged(what: str, asked: float, figures: Figures) -> Reading:
    found = next(f for f in figures["figures"] if "ragged" in f["case"] and f["what"] == what)
    return times(found["ratio"], asked)


def narrow(shape: str, dtypes: Sequence[str], asked: float, figures: Figures) -> Reading:
    """Narrow floats over float32 at a shape, with and without the gradient."""
    names = [f"cross-entropy {shape} {dtype}" for dtype in dtypes]
    ratios = [f["ratio"] for f in figures["figures"] if f["case"] in names]
    return Reading(f"{min(ratios):.2f}× to {max(ratios):.2f}×", min(ratios) >= asked)


def linear_size(figures: Figures) -> Reading:
    """The cost of a byte at the largest size over the one before it, by TCP and by shared memory."""
    before, last = figures["figures"][-2:]
    per_byte = [
        last["seconds"][way] / last["nbytes"] * before["nbytes"] / before["seconds"][way]
        for way in ("lossd, TCP", "lossd, shared memory, copied in", "lossd, client.empty")
    ]
    return Reading(f"a byte costs {max(per_byte):.2f}× as much at 1 GB as at 131 MB, at most", max(per_byte) <= GROWTH)


def linear_batch(figures: Figures) -> Reading:
    """The cost of a request in the largest batch over that of a lone one."""
    ours = [(f["requests"], f["seconds"]["lossd"] / f["requests"]) for f in figures["figures"] if not f["gradient"]]
    ratio = ours[-1][1] / ours[0][1]
    return Reading(f"a request costs {ratio:.2f}× as much among {ours[-1][0]:,} as alone", ratio <= GROWTH)


def of(function: Callable[..., Reading], *given: Any) -> Callable[[Figures], Reading]:
    return lambda figures: function(*given, figures)


def slug(peer: str) -> str:
    return peer.replace(", ", "-").replace(" ", "-")


SMALL = "(8, 16), unary, h2load, concurrency"
OWN = "(8, 16), each side's own Python client, concurrency"
SHARED = "(4096, 32000), shared memory"
TRITON = {"triton": "Triton", "triton, one thread": "Triton, torch held to one thread"}
# name, gradient, lossd's way, the peer, asked
IN_MEMORY = (
    ("shared-triton", False, "lossd, client.empty", "Triton, shared memory", 6),
    ("empty-loss", False, "lossd, client.empty", "torch eager", 3),
    ("empty-gradient", True, "lossd, client.empty", "torch eager", 4.5),
    ("copied-loss", False, "lossd, copied in", "torch eager", 1.3),
    ("copied-gradient", True, "lossd, copied in", "torch eager", 2.5),
)
GOALS = (
    *(
        Goal(
            f"{slug(peer)}-{c}",
            f"{SMALL} {c}: against {name}",
            f"≥ {asked:g}×, p99 lower",
            "small",
            of(against_triton, peer, c, asked),
        )
        for peer, name in TRITON.items()
        for c, asked in ((1, 2.0), (32, 1.5), (128, 1.5))
    ),
    *(
        Goal(f"echo-{c}", f"{SMALL} {c}: against a bare echo", "≥ 75 %", "small", of(against_echo, c))
        for c in (1, 32, 128)
    ),
    *(
        Goal(
            f"own-{slug(peer)}-{c}",
            f"{OWN} {c}: against {name}",
            f"≥ {asked:g}×",
            "small",
            of(own_clients, peer, c, asked),
        )
        for peer, name in TRITON.items()
        for c, asked in ((1, 2.5), (32, 4), (128, 4))
    ),
    Goal("map", "(8, 16) through `client.map`: against Triton's best burst", "≥ 4×", "map", mapped),
    Goal("tcp-triton", "(1024, 32000) over TCP, loss: against Triton", "≥ 10×", "large", tcp_triton),
    Goal("tcp-bytes", "(1024, 32000) over TCP, loss: against a bare gRPC byte stream", "≥ 85 %", "large", tcp_bytes),
    *(
        Goal(
            name,
            f"{SHARED}, {ours.removeprefix('lossd, ')}, {'loss + gradient' if gradient else 'loss'}: against {peer}",
            f"≥ {asked:g}×",
            "shared",
            of(in_memory, gradient, ours, peer, asked),
        )
        for name, gradient, ours, peer, asked in IN_MEMORY
    ),
    Goal(
        "kernel-loss", "CPU kernel, (4096, 32000), loss: against torch eager", "≥ 3.5×", "kernels", of(kernel, "loss")
    ),
    Goal(
        "kernel-gradient",
        "CPU kernel, (4096, 32000), loss + gradient: against torch eager",
        "≥ 5×",
        "kernels",
        of(kernel, "loss + gradient"),
    ),
    Goal(
        "copy-loss",
        "CPU kernel, (4096, 32000), loss: of the machine's copy bandwidth",
        "≥ 60 %",
        "kernels",
        of(bandwidth, "loss"),
    ),
    Goal(
        "copy-gradient",
        "CPU kernel, (4096, 32000), loss + gradient: of the machine's copy bandwidth",
        "≥ 60 %",
        "kernels",
        of(bandwidth, "loss + gradient"),
    ),
    *(
        Goal(
            f"{name}-{part}",
            f"CPU kernels, {words}, {what}: against {'torch eager' if key == 'ratio' else 'torch.compile'}",
            f"≥ {asked:g}×",
            "kernels",
            of(of_cases, cases, what, asked, key),
        )
        for name, words, cases, key, goals in (
            ("few", "10 classes", FEW_CLASSES, "ratio", (8, 9.8)),
            ("classes", "100, 1,000 and 4,096 classes", CLASSES, "ratio", (2, 5)),
            ("compiled", "100, 1,000 and 4,096 classes", CLASSES, "compiled_ratio", (1.5, 2.5)),
            ("elements", "BCE with logits, KL and entropy of 10⁷ elements", ELEMENTS, "ratio", (7, 7)),
        )
        for part, what, asked in (("loss", "loss", goals[0]), ("gradient", "loss + gradient", goals[1]))
    ),
    *(
        Goal(
            f"elements-copy-{part}",
            f"CPU kernels, BCE with logits, KL and entropy of 10⁷ elements, {what}: of the machine's copy bandwidth",
            "≥ 50 %",
            "kernels",
            of(copy_share, ELEMENTS, what, 0.5),
        )
        for part, what in (("loss", "loss"), ("gradient", "loss + gradient"))
    ),
    *(
        Goal(
            name,
            f"64 ragged requests as one batch, {what}: against a loop of torch calls",
            f"≥ {asked:g}×",
            "kernels",
            of(ragged, what, asked),
        )
        for name, what, asked in (("ragged-loss", "loss", 1.5), ("ragged", "loss + gradient", 2.5))
    ),
    *(
        Goal(
            f"{name}-{classes}",
            f"{' and '.join(dtypes)} on the CPU, (4096, {classes}): against float32 per element",
            f"≥ {asked:g}×",
            "kernels",
            of(narrow, f"(4096, {classes})", dtypes, asked),
        )
        for name, dtypes, classes, asked in (
            ("narrow", ("bfloat16", "float16"), 1000, 1.0),
            ("narrow", ("bfloat16", "float16"), 32000, 1.3),
            ("float8", ("float8_e4m3fn", "float8_e5m2"), 1000, 1.0),
            ("float8", ("float8_e4m3fn", "float8_e5m2"), 32000, 1.0),
        )
    ),
    Goal("memory", "server memory while 20 GB stream through", "flat, < 300 MB above idle", "memory", flat),
    Goal("batch", "cost of a request as its batch grows", "linear or better", "batch", linear_batch),
    Goal("sizes", "cost of a request as it grows to 1 GB", "linear or better", "sizes", linear_size),
)
