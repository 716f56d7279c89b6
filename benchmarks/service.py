"""Small unary requests: lossd beside a bare gRPC echo of the same bytes, in one run.

    python benchmarks/service.py [--rounds 7] [--calls 2000] [--h2load] [--json figures.json]

The request is a cross-entropy of (8, 16) float32 logits; the echo answers as many bytes as lossd does. Both servers
are processes of their own; one Python client drives them in turns with raw bytes, so that its cost is the same for
both, and medians count. Every answer is read after its round and compared with float64.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from load import Round, completed, h2load_is_installed, h2load_round, python_round
from lossd.bench.float64 import closed_form
from lossd.request import build as requests
from lossd.v1 import service_pb2 as pb
from machine import describe, processor, threads, versions
from servers import LOSSD, echo, running
from stages import stages

DISTRIBUTIONS = ("grpcio", "protobuf", "uvloop", "numpy", "numba")
CONCURRENCIES = (1, 32, 128)
GOAL = 0.75
TOLERANCE = 1e-6


def request() -> tuple[bytes, float]:
    """The message, and its loss in float64."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (8, 16)).astype(np.float32)
    labels = random.integers(0, 16, 8)
    loss, _ = closed_form("cross_entropy", logits, labels, "mean")
    return requests.build("cross_entropy", logits, labels).request.SerializeToString(), float(loss)


def read(answers: list[bytes], loss: float) -> list[pb.CrossEntropyResponse]:
    """The answers as messages; AssertionError where one is wrong."""
    messages = [pb.CrossEntropyResponse.FromString(answer) for answer in answers]
    found = np.frombuffer(b"".join(message.loss.data for message in messages), "<f4")
    assert len(found) == len(answers), "an answer has no loss"
    assert np.abs(found / loss - 1).max() <= TOLERANCE, "an answer is wrong"
    return messages


def middle(rounds: list[Round]) -> Round:
    return Round(*(median(getattr(r, name) for r in rounds) for name in ("per_s", "p50_s", "p99_s")))


def alternate(lossd: str, bare: str, body: bytes, loss: float, concurrency: int, args: Any) -> dict[str, Any]:
    """Rounds on both servers in turns; medians, and what lossd's answers say of queue and compute."""
    ours, theirs, queue, compute, batch = [], [], [], [], []
    for _ in range(args.rounds):
        figures, answers = python_round(lossd, body, concurrency, args.calls)
        ours.append(figures)
        for message in read(answers, loss):
            queue.append(message.timing.queue_ns)
            compute.append(message.timing.compute_ns)
            batch.append(message.timing.batch_requests)
        figures, echoed = python_round(bare, body, concurrency, args.calls)
        assert len(echoed) == args.calls
        theirs.append(figures)
    return {
        "concurrency": concurrency,
        "lossd": vars(middle(ours)),
        "echo": vars(middle(theirs)),
        "ratio": middle(ours).per_s / middle(theirs).per_s,
        "queue_us": median(queue) / 1e3,
        "compute_us": median(compute) / 1e3,
        "mean_batch": len(batch) / sum(1 / size for size in batch),
    }


def alternate_h2load(lossd: str, bare: str, body: bytes, concurrency: int, args: Any) -> dict[str, Any]:
    """The same with h2load, which knows no gRPC status: the server's own count says that each call got a result."""
    ours, theirs = [], []
    for _ in range(args.rounds):
        before = completed(lossd)
        ours.append(h2load_round(lossd, body, concurrency, args.calls))
        assert completed(lossd) - before == args.calls, "not every call got a result"
        theirs.append(h2load_round(bare, body, concurrency, args.calls))
    ratio = median(ours) / median(theirs)
    return {"concurrency": concurrency, "lossd": median(ours), "echo": median(theirs), "ratio": ratio}


def milliseconds(figures: dict[str, float]) -> str:
    return f"{figures['p50_s'] * 1e3:.2f}, {figures['p99_s'] * 1e3:.2f} ms"


def show_service(figures: list[dict[str, Any]]) -> None:
    head = f"{'lossd':>10}{'echo':>10}{'ratio':>8}  {'goal':<14}{'lossd p50, p99':>20}{'echo p50, p99':>20}"
    print(f"{'Python aio client':<20}{head}")
    for f in figures:
        verdict = f"≥ {GOAL:.0%} {'met' if f['ratio'] >= GOAL else 'missed'}"
        print(
            f"concurrency {f['concurrency']:<8}{f['lossd']['per_s']:>8.0f}/s{f['echo']['per_s']:>8.0f}/s"
            f"{f['ratio']:>8.0%}  {verdict:<14}"
            f"{milliseconds(f['lossd']):>20}{milliseconds(f['echo']):>20}"
        )


def show_h2load(figures: list[dict[str, Any]]) -> None:
    print(f"\n{'h2load':<20}{'lossd':>10}{'echo':>10}{'ratio':>8}")
    for f in figures:
        print(f"concurrency {f['concurrency']:<8}{f['lossd']:>8.0f}/s{f['echo']:>8.0f}/s{f['ratio']:>8.0%}")


def show_stages(alone: dict[str, float], first: dict[str, float], figures: list[dict[str, Any]]) -> None:
    """Where the time of a call goes that the echo does not need: 1/lossd − 1/echo, part by part."""
    print("\nWhere the rest of the time goes, µs a call (stages timed alone in this process)")
    heads = [f"concurrency {f['concurrency']}" for f in figures]
    print(f"{'':<20}" + "".join(f"{head:>16}" for head in heads))
    over = [1e6 / f["lossd"]["per_s"] - 1e6 / f["echo"]["per_s"] for f in figures]
    print(f"{'lossd − echo':<20}" + "".join(f"{value:>16.1f}" for value in over))
    for name, value in alone.items():
        print(f"  {name:<18}" + f"{value:>16.1f}" * len(figures))
    rest = [value - sum(alone.values()) for value in over]
    print(f"  {'all else':<18}" + "".join(f"{value:>16.1f}" for value in rest) + "   metadata, admission, books")
    print(f"of a request met the first time: {', '.join(f'{name} {value:.1f}' for name, value in first.items())}")
    print("As the answers tell it: medians of a request's wait for its batch, of its batch's computing, mean batch")
    for key, label in (("queue_us", "batch wait"), ("compute_us", "batch compute"), ("mean_batch", "requests a batch")):
        print(f"  {label:<18}" + "".join(f"{f[key]:>16.1f}" for f in figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="alternated rounds, at least 5 (default 7)")
    parser.add_argument("--calls", type=int, default=2000, help="calls of a round (default 2000)")
    parser.add_argument("--h2load", action="store_true", help="drive both with h2load too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    args = parser.parse_args()
    args.rounds = max(5, args.rounds)
    if args.h2load and not h2load_is_installed():
        parser.error("h2load is not installed (Debian's package nghttp2-client has it)")

    body, loss = request()
    with running(LOSSD) as lossd:
        _, (answer,) = python_round(lossd, body, 1, 1)
        print(describe(*DISTRIBUTIONS))
        print(f"cross-entropy (8, 16): {len(body)} bytes there, {len(answer)} back; answers checked against float64")
        print(f"medians of {args.rounds} alternated rounds of {args.calls} calls\n")
        with running(echo(len(answer))) as bare:
            figures = [alternate(lossd, bare, body, loss, concurrency, args) for concurrency in CONCURRENCIES]
            show_service(figures)
            cheap = []
            if args.h2load:
                cheap = [alternate_h2load(lossd, bare, body, concurrency, args) for concurrency in CONCURRENCIES]
                show_h2load(cheap)
    alone, first = stages("CrossEntropy", body)
    show_stages(alone, first, figures)
    if args.json:
        machine = {"processor": processor(), "threads": threads(), "versions": versions(*DISTRIBUTIONS)}
        found = {"rounds": args.rounds, "calls": args.calls, "python": figures, "h2load": cheap}
        args.json.write_text(json.dumps({**machine, **found, "stages_us": alone | first}, indent=2) + "\n")


if __name__ == "__main__":
    main()
