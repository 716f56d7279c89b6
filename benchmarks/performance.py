"""Everything that docs/performance.md tells, by one command: lossd and its peers, alternately, on this machine.

    make performance                                          every part, about ten minutes; then the page
    make performance PERFORMANCE="--only small,large"         these parts; the others' figures stay
    make performance PERFORMANCE=--render                     the page alone, from the figures that are there

Each part writes its figures to docs/performance/PART.json. Its answers are checked against float64. The peers live in
.venv/peers (`make .venv/peers/made`); h2load is Debian's package nghttp2-client.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import h2load
import page
import plots
import transports_page
from machine import BUSY_LOAD, copy_bandwidth, processor, read_bandwidth, threads, versions
from measures import batch, kernels, large, many, memory, shared, sizes, small
from processes import PEERS_PYTHON, ROOT

Measure = Callable[[Path, int, bool], dict[str, Any]]
RESULTS = ROOT / "docs/performance"
PARTS: dict[str, Measure] = {
    "small": small.measure,
    "map": many.measure,
    "large": large.measure,
    "shared": shared.measure,
    "memory": memory.measure,
    "batch": batch.measure,
    "sizes": sizes.measure,
    "kernels": kernels.measure,
}
DISTRIBUTIONS = ("lossd", "grpcio", "protobuf", "uvloop", "numpy", "numba", "torch")
PEER_DISTRIBUTIONS = ("nvidia-pytriton", "tritonclient", "grpcio", "numpy", "torch")


def peer_versions() -> dict[str, str]:
    program = "import json, sys; from importlib.metadata import version; "
    program += "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
    done = subprocess.run(
        [PEERS_PYTHON, "-c", program, *PEER_DISTRIBUTIONS], capture_output=True, text=True, check=True
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def h2load_version() -> str:
    return subprocess.run(["h2load", "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]


def commit() -> str:
    """Of the tree that is measured, with a plus where it has changes; empty outside a repository."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    return done.stdout.strip()


def surroundings(load: float) -> dict[str, Any]:
    """load: the machine's before the first part: other work's."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "command": " ".join(["benchmarks/performance.py", *sys.argv[1:]]),
        "commit": commit(),
        "processor": processor(),
        "threads": threads(),
        "load": load,
        "read_gb_per_s": read_bandwidth(),
        "copy_gb_per_s": copy_bandwidth(),
        "versions": versions(*DISTRIBUTIONS),
        "peers": (peer_versions() if PEERS_PYTHON.exists() else {}) | {"h2load": h2load_version()},
    }


def run(parts: list[str], rounds: int, quick: bool, results: Path) -> list[str]:
    """Measures each part, and writes its figures. Returns the parts that failed as a whole; the others are kept."""
    load = os.getloadavg()[0]
    if load > BUSY_LOAD:
        print(f"WARNING: the machine is busy (load {load:.1f}): no figure of this run says much", file=sys.stderr)
    around = surroundings(load)
    results.mkdir(parents=True, exist_ok=True)
    failed = []
    for part in parts:
        print(f"{part} …", file=sys.stderr, flush=True)
        start = perf_counter()
        try:
            with tempfile.TemporaryDirectory(prefix="lossd-") as folder:
                found = PARTS[part](Path(folder), rounds, quick)
        except Exception as error:
            print(f"{part} failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            failed.append(part)
            continue
        whole = {"around": around, "rounds": rounds, "quick": quick, "seconds": perf_counter() - start, "found": found}
        (results / f"{part}.json").write_text(json.dumps(whole, indent=1) + "\n")
        print(f"{part}: {perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), metavar="PARTS", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=5, help="alternated rounds, at least 5 (default 5)")
    parser.add_argument("--quick", action="store_true", help="small shapes and few calls: whether it works, no figures")
    parser.add_argument(
        "--render", action="store_true", help="measure nothing: the page from the figures that are there"
    )
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="figures go there, and no page is written")
    args = parser.parse_args()
    parts = args.only.split(",")
    if unknown := sorted(set(parts) - set(PARTS)):
        parser.error(f"no such part: {', '.join(unknown)}")
    # What --quick finds is for the eye only.
    results: Path = args.results or (Path(tempfile.mkdtemp(prefix="lossd-")) if args.quick else RESULTS)
    failed: list[str] = []
    if not args.render:
        if not h2load.is_installed():
            parser.error("h2load is not installed (Debian's package nghttp2-client has it)")
        if parts != ["kernels"] and not PEERS_PYTHON.exists():  # PyTorch is their only peer
            parser.error("the peers are not installed: make .venv/peers/made")
        failed = run(parts, max(5, args.rounds), args.quick, results)
    if results == RESULTS:
        there = page.load(RESULTS)
        text = page.text(there, page.reasons(RESULTS), page.load_gpu(RESULTS))
        (ROOT / "docs/performance.md").write_text(text, encoding="utf-8")
        transports = ROOT / "docs/transports.md"
        filled = transports_page.filled(transports.read_text(encoding="utf-8"), there)
        transports.write_text(filled, encoding="utf-8")
        plots.draw(there)
    print(page.summary(results))
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
