"""Overload: what a server still answers where more is asked of it than it can do, and small calls beside huge ones.

    PYTHONPATH=client:server:tools python benchmarks/overload.py [--json FILE] [--plot] [--quick]

Goodput: right answers a second while requests come at a rate (open loop, never repeated), from a half to three times
of what the server answers at most in a closed loop. Beside it the 99th percentile of those that were answered.

Flood: what one caller with 64 requests under way is answered while another has 256, each with a token of its own.

Small calls: one at a time, alone and beside streams of huge evaluations, in turns.

All of it is `lossd bench`'s, which checks every answer. The server has the first half of this machine's cores, the load
generators the other half: where they shared them, what they take from each other would be measured. The generator of
huge evaluations has what the small calls' leaves it (SCHED_IDLE).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from lossd.command_line.token_line import token_line
from processes import Server, environment, serving
from servers import LOSSD

# One that is computed far longer than it is carried, so that the generators, which see every byte too, keep up with
# three times of what the server can; and one of which carrying is most.
COMPUTED = ["--loss", "entropy", "--shape", "65536x2", "--dtype", "float16", "--raw", "--transport", "unary"]
CARRIED = ["--shape", "256x1000", "--grad", "--raw", "--transport", "unary"]
REQUESTS = {"computed": COMPUTED, "carried": CARRIED}
TOLD = {"computed": "computing is most of a request", "carried": "carrying is most of a request"}
# A budget that a burst of them fills.
LIMITS = ["--max-inflight-bytes", "64MiB", "--max-admission-wait-s", "0.25"]
TIMEOUT_S = 2.0
PARTS = (0.5, 0.75, 0.9, 1.0, 1.5, 2.0, 3.0)
SMALL = ["--shape", "8x16", "--raw", "--transport", "unary", "--concurrency", "1"]
HUGE = ["--shape", "4096x4096", "--grad", "--transport", "stream", "--concurrency", "2", "--timeout", "60"]
ROUNDS = 5
BEGUN, BEGINS_S = 4, 60.0  # answers to the load beside, after which it is under way; and by when
GOODPUT_GOAL, SHARE_GOAL, SMALL_GOAL = 0.8, 0.45, 3.0


@dataclass(frozen=True)
class Level:
    """offered, answered: requests a second. failed: by status."""

    part: float
    offered: float
    answered: float
    p50_s: float
    p99_s: float
    failed: dict[str, int]


def halves() -> tuple[list[str], list[str]]:
    """What a command of the server begins with, and one of a load generator: cores of their own."""
    cores = [str(core) for core in sorted(os.sched_getaffinity(0))]
    middle = len(cores) // 2
    if not middle or shutil.which("taskset") is None:
        print("server and load generators share their cores", file=sys.stderr)
        return [], []
    return ["taskset", "-c", ",".join(cores[:middle])], ["taskset", "-c", ",".join(cores[middle:])]


SERVERS, GENERATORS = halves()
YIELDS = ["chrt", "--idle", "0"] if shutil.which("chrt") else []


def server(*flags: str) -> AbstractContextManager[Server]:
    return serving([*SERVERS, *LOSSD, *flags])


def command(address: str, *flags: str) -> list[str]:
    return [*GENERATORS, sys.executable, "-m", "lossd", "bench", "--server", address, *flags]


def bench(address: str, *flags: str) -> dict[str, Any]:
    """The report of `lossd bench`."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        done = subprocess.run(
            [*command(address, *flags), "--json", file.name],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            report: dict[str, Any] = json.load(file)
        except ValueError:
            raise RuntimeError(f"lossd bench: {done.stderr}") from None
    wrong = [level for level in report["levels"] if level["failed_by_status"].get("WRONG_ANSWER")]
    if wrong or report["wrong_before_the_first_level"]:
        raise RuntimeError(f"wrong answers: {report['sentences']}")
    return report


def goodput(request: list[str], quick: bool) -> tuple[float, list[Level]]:
    """The peak in a closed loop, and what is answered at rates around it."""
    window = ["--window-s", "0.5" if quick else "2", "--max-s", "3" if quick else "20"]
    with server(*LIMITS) as its:
        closed = bench(its.address, *request, *window, "--concurrency", "4,8,16")
        peak = max(float(level["requests_per_s"]) for level in closed["levels"])
        levels = []
        for part in PARTS:
            rate = part * peak
            report = bench(its.address, *request, *window, "--rate", f"{rate:.1f}", "--timeout", f"{TIMEOUT_S}")
            (row,) = report["levels"]
            latency = {
                name: row[f"{name}_ms"] / 1e3 if row[f"{name}_ms"] is not None else float("nan")
                for name in ("p50", "p99")
            }
            levels.append(
                Level(part, rate, row["requests_per_s"], latency["p50"], latency["p99"], row["failed_by_status"])
            )
            print(
                f"  {part:4.2f}× {rate:7.1f}/s offered: {levels[-1].answered:7.1f}/s answered,"
                f" p50 {1e3 * latency['p50']:.0f} ms, p99 {1e3 * latency['p99']:.0f} ms, {row['failed_by_status']}",
                file=sys.stderr,
            )
    return peak, levels


def flood(request: list[str], quick: bool) -> dict[str, list[float]]:
    """Right answers a second to a caller with 64 requests under way, alone and beside a flood of another."""
    window = ["--window-s", "1" if quick else "3", "--max-s", "4" if quick else "12"]
    found: dict[str, list[float]] = {"alone": [], "beside": []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokens"
        tokens = {name: f"{name}-{'0' * 40}" for name in ("modest", "flood")}
        path.write_text("\n".join(token_line(name, token) for name, token in tokens.items()))
        with watched_server("--tokens", str(path), token=tokens["modest"]) as (its, answered):
            for _ in range(2 if quick else ROUNDS):
                for name in ("alone", "beside"):
                    flags = [*request, "--concurrency", "256", "--max-s", "600", "--token", tokens["flood"]]
                    with beside(answered, command(its.address, *flags) if name == "beside" else []):
                        report = bench(
                            its.address, *request, *window, "--concurrency", "64", "--token", tokens["modest"]
                        )
                        found[name].append(report["levels"][0]["requests_per_s"])
    return found


@contextmanager
def watched_server(*flags: str, token: str = "") -> Iterator[tuple[Server, Callable[[], float]]]:
    """A server, and what tells how many evaluations it has answered. token: to ask for that with."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    asked = urllib.request.Request(f"http://127.0.0.1:{port}/metrics")
    if token:
        asked.add_header("authorization", f"Bearer {token}")

    def answered() -> float:
        with urllib.request.urlopen(asked) as page:
            lines = page.read().decode().splitlines()
        counts = [line for line in lines if line.startswith("lossd_evaluations_total") and '"completed"' in line]
        return sum(float(line.rsplit(" ", 1)[1]) for line in counts)

    with server(*flags, "--http", f"127.0.0.1:{port}") as its:
        yield its, answered


@contextmanager
def beside(answered: Callable[[], float], generator: list[str]) -> Iterator[None]:
    """A load generator of its own for as long as the block lasts; none without a command. It is under way by then."""
    if not generator:
        yield
        return
    before, until_s = answered(), time.monotonic() + BEGINS_S
    process = subprocess.Popen(generator, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while answered() < before + BEGUN:
            if process.poll() is not None or time.monotonic() > until_s:
                raise RuntimeError("the load beside did not begin")
            time.sleep(0.1)
        yield
        if process.poll() is not None:
            raise RuntimeError("the load beside ended too early")
    finally:
        process.kill()
        process.wait()


def small_beside_huge(quick: bool) -> dict[str, list[float]]:
    """Of small calls in seconds, alone and beside huge ones, a figure for each round."""
    window = ["--window-s", "1" if quick else "3", "--max-s", "4" if quick else "12"]
    found: dict[str, list[float]] = {"alone": [], "beside": [], "p50 alone": [], "p50 beside": []}
    with watched_server() as (its, answered):
        for _ in range(2 if quick else ROUNDS):
            for name in ("alone", "beside"):
                huge = [*YIELDS, *command(its.address, *HUGE, "--max-s", "600")]
                with beside(answered, huge if name == "beside" else []):
                    (row,) = bench(its.address, *SMALL, *window)["levels"]
                found[name].append(row["p99_ms"] / 1e3)
                found[f"p50 {name}"].append(row["p50_ms"] / 1e3)
    return found


def plot(load: dict[str, Any], small: dict[str, list[float]]) -> None:
    import matplotlib.pyplot as plt
    from style import BLUE, GREY, ORANGE, save

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 2.9), layout="constrained")
    left.plot(PARTS, PARTS, color=GREY, linestyle=":", label="all that is asked")
    for name, color in (("computed", BLUE), ("carried", ORANGE)):
        peak, levels = load[name]["peak"], load[name]["levels"]
        left.plot(PARTS, [level["answered"] / peak for level in levels], "o-", color=color, label=TOLD[name])
    left.axhline(GOODPUT_GOAL, color=GREY, linestyle="--", linewidth=1)
    left.set(ylim=(0, 1.6), xlim=(0, None), xlabel="offered, of the peak", ylabel="answered, of the peak")
    left.set_title("Goodput under overload")
    left.legend(fontsize="small")
    for quantile, line in (("p50_s", "o-"), ("p99_s", "o:")):
        times = [1e3 * level[quantile] for level in load["computed"]["levels"]]
        middle.plot(PARTS, times, line, color=BLUE, label=quantile.removesuffix("_s"))
    middle.set(xlim=(0, None), ylim=(0, None), xlabel="offered, of the peak", ylabel="ms")
    middle.set_title("Latency of what is answered")
    middle.legend(fontsize="small")
    for place, name in enumerate(("alone", "beside")):
        right.bar(
            place - 0.18, 1e3 * median(small[f"p50 {name}"]), 0.34, color=GREY, label="p50" if not place else None
        )
        right.bar(place + 0.18, 1e3 * median(small[name]), 0.34, color=BLUE, label="p99" if not place else None)
    right.set(xticks=(0, 1), xticklabels=("alone", "beside huge streams"), ylabel="ms", title="A small call")
    right.legend(fontsize="small")
    save(figure, "overload")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--plot", action="store_true", help="draw docs/pictures/overload.svg")
    parser.add_argument("--quick", action="store_true", help="short windows: to see that it runs")
    parser.add_argument("--only", choices=["goodput", "flood", "small"], help="one of the three")
    given = parser.parse_args()
    figures: dict[str, Any] = {}
    if given.only in (None, "goodput"):
        figures["goodput"] = {}
        for name, request in REQUESTS.items():
            print(f"{TOLD[name]}:", file=sys.stderr)
            peak, levels = goodput(request, given.quick)
            most = levels[-1]
            print(
                f"{TOLD[name]}: peak {peak:.0f}/s; at {most.part:g} times that {most.answered:.0f}/s are answered,"
                f" {most.answered / peak:.0%} (goal {GOODPUT_GOAL:.0%})"
            )
            figures["goodput"][name] = {"peak": peak, "levels": [asdict(level) for level in levels]}
    if given.only in (None, "flood"):
        figures["flood"] = {}
        for name, request in REQUESTS.items():
            figures["flood"][name] = served = flood(request, given.quick)
            alone, beside_flood = median(served["alone"]), median(served["beside"])
            print(
                f"{TOLD[name]}: a caller with 64 requests under way is answered {alone:.0f}/s alone,"
                f" {beside_flood:.0f}/s beside another's 256, {beside_flood / alone:.0%} (goal {SHARE_GOAL:.0%})"
            )
    if given.only in (None, "small"):
        figures["small"] = small = small_beside_huge(given.quick)
        ratios = [one / other for one, other in zip(small["beside"], small["alone"], strict=True)]
        print(
            f"small calls, p99: {1e3 * median(small['alone']):.2f} ms alone, {1e3 * median(small['beside']):.2f} ms"
            f" beside huge ones, {median(ratios):.1f} times ({min(ratios):.1f} to {max(ratios):.1f};"
            f" goal {SMALL_GOAL:g})"
        )
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")
    if given.plot and given.only is None:
        plot(figures["goodput"], figures["small"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
