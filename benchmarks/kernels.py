"""The CPU backend beside torch eager, in one process, on the same tensors.

    python benchmarks/kernels.py [--rounds 7] [--compile] [--scale 1.0] [--json figures.json]

Needs torch. Each answer is first checked against float64; then the peers take turns, and the median of the rounds
counts. A figure is torch's time over ours. What is timed is a whole evaluation (denominator, kernel, ordered sum), as
`evaluate` does it for the server: no message, no socket.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from alternating import medians
from kernel_cases import Case, cases, narrowed
from lossd_server.backends import Backend, create
from lossd_server.engine.evaluate import evaluate
from machine import copy_bandwidth, describe, processor, read_bandwidth, threads, versions

DISTRIBUTIONS = ("numpy", "numba", "llvmlite", "torch")
COPY_GOAL = 0.60
NARROW_GOALS = {"cross-entropy (4096, 1000)": 1.0, "cross-entropy (4096, 32000)": 1.3}  # of 16 bits; of 8: no slower
NARROW = (torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2)
Figure = dict[str, Any]


def measure(backend: Backend, case: Case, rounds: int, compiled: bool) -> list[Figure]:
    """Two figures: loss; loss and gradient."""
    case.check(evaluate(backend, case.jobs(gradient=True)))
    figures = []
    for gradient in (False, True):
        jobs = case.jobs(gradient)
        program = case.torch_gradient if gradient else case.torch_loss
        peers: dict[str, Callable[[], object]] = {
            "lossd": lambda jobs=jobs: evaluate(backend, jobs),  # type: ignore[misc]
            "eager": program(case.loss),
        }
        if compiled and len(case.tensors) == 1:
            torch.compiler.reset()  # else it gives up after a few shapes, and runs eagerly in silence
            peers["compile"] = program(torch.compile(case.loss))
        seconds = medians(peers, rounds)
        figures.append(
            {
                "case": case.name,
                "what": "loss + gradient" if gradient else "loss",
                "seconds": seconds,
                "ratio": seconds["eager"] / seconds["lossd"],
                "goal": case.goals[gradient],
                "compiled_ratio": seconds["compile"] / seconds["lossd"] if "compile" in seconds else None,
                "compiled_goal": case.compiled_goals[gradient],
                "gb_per_s": case.moved_bytes[gradient] / seconds["lossd"] / 1e9,
            }
        )
    return figures


def measure_narrow(backend: Backend, case: Case, rounds: int) -> list[Figure]:
    """Floats of 16 and 8 bits beside float32: how many times as fast per element."""
    kinds = {"float32": case} | {str(dtype).removeprefix("torch."): narrowed(case, dtype) for dtype in NARROW}
    for kind in list(kinds.values())[1:]:
        kind.check(evaluate(backend, kind.jobs(gradient=True)))
    figures: list[Figure] = []
    for gradient in (False, True):
        jobs = {name: kind.jobs(gradient) for name, kind in kinds.items()}
        peers = {name: (lambda todo=todo: evaluate(backend, todo)) for name, todo in jobs.items()}
        seconds = medians(peers, rounds)
        figures += [
            {
                "case": f"{case.name} {name}",
                "what": "loss + gradient" if gradient else "loss",
                "seconds": {"lossd": seconds[name], "float32": seconds["float32"]},
                "ratio": seconds["float32"] / seconds[name],
                "goal": 1.0 if "float8" in name else NARROW_GOALS.get(case.name),
                "gb_per_s": kinds[name].moved_bytes[gradient] / seconds[name] / 1e9,
            }
            for name in list(kinds)[1:]
        ]
    return figures


def duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds * 1e3:.2f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.1f} µs"


def verdict(ratio: float | None, goal: float | None) -> str:
    if ratio is None:
        return ""
    return f"{ratio:.2f}×" + ("" if goal is None else f" ≥ {goal:g}× {'met' if ratio >= goal else 'missed'}")


def row(figure: Figure, peer: str, copy: float) -> str:
    seconds = figure["seconds"]
    against = verdict(figure["ratio"], figure["goal"])
    compiled = verdict(figure.get("compiled_ratio"), figure.get("compiled_goal"))
    return (
        f"{figure['case']:<38}{figure['what']:<16}{duration(seconds['lossd']):>10}{duration(seconds[peer]):>12}"
        f"  {against:<22}{duration(seconds.get('compile')):>10}  {compiled:<22}"
        f"{figure['gb_per_s']:>6.1f}{figure['gb_per_s'] / copy:>6.0%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="alternated rounds, at least 5 (default 7)")
    parser.add_argument("--scale", type=float, default=1.0, help="shortens the large cases, for a quick look")
    parser.add_argument("--compile", action="store_true", help="torch.compile as a third peer (needs a C++ compiler)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    args = parser.parse_args()
    rounds = max(5, args.rounds)
    torch.set_num_threads(threads())

    print(describe(*DISTRIBUTIONS))
    read, copy = read_bandwidth(), copy_bandwidth()
    print(f"memory: {read:.1f} GB/s read (torch.sum), {copy:.1f} GB/s copied (numpy; read + written)")
    print(f"medians of {rounds} alternated rounds; every answer was checked against float64\n")

    backend = create("cpu", threads())
    backend.warm_up(lambda line: None)
    columns = f"{'lossd':>10}{'torch eager':>12}  {'':<22}{'compiled':>10}  {'':<22}{'GB/s':>6}{'copy':>6}"
    print(f"{'case':<38}{'what':<16}{columns}")
    figures: list[Figure] = []
    todo = cases(args.scale)
    for case in todo:
        for figure in measure(backend, case, rounds, args.compile):
            figures.append(figure)
            print(row(figure, "eager", copy), flush=True)
    for figure in figures[-2:]:
        share = figure["gb_per_s"] / copy
        said = "met" if share >= COPY_GOAL else "missed"
        print(f"  {figure['what']}: {share:.0%} of the copy bandwidth; goal ≥ {COPY_GOAL:.0%}: {said}")
    print(f"\n{'16 and 8 bits beside float32':<54}{'narrow':>10}{'float32':>12}")
    for case in todo:
        if case.name in NARROW_GOALS or (args.scale != 1 and case is todo[-1]):
            for figure in measure_narrow(backend, case, rounds):
                figures.append(figure)
                print(row(figure, "float32", copy), flush=True)
    backend.close()
    if args.json:
        machine = {"processor": processor(), "threads": threads(), "versions": versions(*DISTRIBUTIONS)}
        memory = {"read_gb_per_s": read, "copy_gb_per_s": copy}
        args.json.write_text(json.dumps({**machine, **memory, "rounds": rounds, "figures": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
