"""The GPU kernels measured: correctness first, then time beside a device copy and others' kernels.

    PYTHONPATH=client:server python benchmarks/gpu.py --part kernels --out docs/performance/gpu.json

Parts: correctness, kernels, peers, ragged, elementwise, requests. Each is under ten minutes; results of several runs
go into one file. Needs torch, Triton, numpy and protobuf. With --dry-run and TRITON_INTERPRET=1 every part runs on a
CPU at tiny sizes: it proves the program, and measures nothing. After SIGTERM what was measured is kept.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import gpu_record
from gpu_cases import BatchOnDevice, Clock, batch_on_device, index_job, ragged_shapes
from gpu_peers import PEERS

CLASSES = (10, 100, 256, 1000, 4096, 32000, 50257, 128256, 262144)
BUFFER_BYTES = 2 << 30  # of logits: far above any L2
HUGE_ELEMENTS = (1 << 32) + (1 << 20)
LOSS_TOLERANCE = 1e-6  # relative, of a row's loss
GRADIENT_TOLERANCE = {"float32": 1e-6, "bfloat16": 4e-3, "float16": 6e-4}  # of the greatest entry
CHECKED_ROWS = 64


@dataclass
class Run:
    """What a run knows: where it is, how long it may take, what it has found."""

    device: str
    clock: Clock
    buffer_bytes: int
    classes: Sequence[int]
    peers: Sequence[str]
    found: list[dict[str, Any]] = field(default_factory=list)
    copy_gbps: float = 0.0

    def note(self, part: str, name: str, moved: int, ms: float, spread: float, **what: Any) -> None:
        gbps = moved / ms / 1e6
        share = gbps / self.copy_gbps if self.copy_gbps else 0.0
        self.found.append(
            {"part": part, "name": name, "bytes": moved, "ms": ms, "spread_ms": spread, "gbps": gbps, "of_copy": share}
            | what
        )
        print(f"{part:12} {name:42} {ms:9.3f} ms ± {spread:.3f} {gbps:8.1f} GB/s {share:6.1%} of the copy", flush=True)


def sizes(run: Run, classes: int, dtype: str) -> tuple[int, int]:
    """Rows that fill the buffer, bytes of an entry."""
    itemsize = 4 if dtype == "float32" else 2
    return max(4, run.buffer_bytes // (classes * itemsize)), itemsize


def moved_bytes(rows: int, classes: int, itemsize: int, gradient: bool) -> int:
    """Bytes that cannot be avoided: logits and classes read, losses and gradients written, once each."""
    return rows * classes * itemsize * (1 + gradient) + 16 * rows


def check(one: BatchOnDevice, number: int, dtype: str, name: str) -> None:
    """First and last rows of a job against float64; a wrong answer ends the run."""
    job = one.batch.jobs[number]
    assert job.target is not None
    rows = job.layout.rows
    wanted = sorted({*range(min(rows, CHECKED_ROWS // 2)), *range(max(0, rows - CHECKED_ROWS // 2), rows)})
    at = torch.tensor(wanted, device=one.memory.device)
    x = one.rows(number)[at].double().requires_grad_()
    y = torch.from_numpy(job.target.values[wanted]).to(x.device)
    losses = F.cross_entropy(x, y, reduction="none")
    error = ((one.losses(number)[at] - losses.detach()).abs() / losses.detach().clamp_min(1e-30)).max().item()
    if not error <= LOSS_TOLERANCE:
        sys.exit(f"{name}: a loss is off by {error:.2e}")
    if job.input_gradient:
        (expected,) = torch.autograd.grad(losses.sum() / rows, x)
        off = (one.gradient(number)[at].double() - expected).abs().max() / expected.abs().max()
        if not off.item() <= GRADIENT_TOLERANCE[dtype]:
            sys.exit(f"{name}: a gradient is off by {off.item():.2e}")
        if not bool(torch.isfinite(one.gradient(number).sum(dtype=torch.float64))):
            sys.exit(f"{name}: a gradient was not written")
    if not bool(torch.isfinite(one.losses(number)).all()):
        sys.exit(f"{name}: a loss was not written")


def measure_copy(run: Run) -> None:
    """GB/s of a copy in device memory, bytes read and written both counted: the reference for every other figure."""
    source = torch.randn(run.buffer_bytes // 4, device=run.device)
    target = torch.empty_like(source)
    ms, spread = run.clock.median_ms(lambda: target.copy_(source))
    run.copy_gbps = 2 * source.nbytes / ms / 1e6
    run.note("copy", f"{source.nbytes >> 20} MiB", 2 * source.nbytes, ms, spread)


def correctness(run: Run) -> None:
    """Every C and dtype; offsets beyond 2³²."""
    for dtype in ("float32", "bfloat16", "float16"):
        for classes in run.classes:
            rows = max(3, sizes(run, classes, dtype)[0] // 64)
            name = f"({rows}, {classes}) {dtype}"
            one = batch_on_device([index_job(rows, classes, dtype, True)], run.device, deviation=4.0)
            one.launch()
            check(one, 0, dtype, name)
            print(f"correct      {name}", flush=True)
    if run.device == "cuda" and torch.cuda.mem_get_info()[0] > 5 * HUGE_ELEMENTS:
        for classes in (1000, 50257):
            rows = HUGE_ELEMENTS // classes + 1
            one = batch_on_device([index_job(rows, classes, "bfloat16", True)], run.device)
            one.launch()
            check(one, 0, "bfloat16", f"({rows}, {classes}) bfloat16")
            print(f"correct      ({rows}, {classes}) bfloat16: more than 2**32 elements", flush=True)
            del one


def kernels(run: Run) -> None:
    """Loss, and loss and gradient, of every C."""
    measure_copy(run)
    for dtype in ("bfloat16", "float32"):
        for classes in run.classes:
            rows, itemsize = sizes(run, classes, dtype)
            for gradient in (False, True):
                one = batch_on_device([index_job(rows, classes, dtype, gradient)], run.device)
                one.launch()
                name = f"({rows}, {classes}) {dtype}{' + gradient' * gradient}"
                check(one, 0, dtype, name)
                ms, spread = run.clock.median_ms(one.launch)
                moved = moved_bytes(rows, classes, itemsize, gradient)
                run.note("kernels", name, moved, ms, spread, C=classes, dtype=dtype, gradient=gradient)
                del one


def peers(run: Run) -> None:
    """The same tensors by each peer that is there; dense where ours have a pitch."""
    measure_copy(run)
    for dtype in ("bfloat16", "float32"):
        for classes in run.classes:
            rows, itemsize = sizes(run, classes, dtype)
            for gradient in (False, True):
                one = batch_on_device([index_job(rows, classes, dtype, gradient)], run.device)
                x = one.rows(0).contiguous()
                job = one.batch.jobs[0]
                assert job.target is not None
                y = torch.from_numpy(job.target.values).to(run.device)
                moved = moved_bytes(rows, classes, itemsize, gradient)
                works: dict[str, Callable[[], object]] = {"lossd": one.launch}
                for name in run.peers:
                    try:
                        works[name] = PEERS[name](x, y, gradient)
                        works[name]()
                    except Exception as error:  # whatever a peer lacks is its own matter
                        works.pop(name, None)
                        why = f"{type(error).__name__}: {error}".splitlines()[0][:120]
                        run.found.append({"part": "peers", "name": name, "C": classes, "dtype": dtype, "missing": why})
                        print(f"peers        {name}: {why}", flush=True)
                for name, work in works.items():
                    ms, spread = run.clock.median_ms(work, graph=name == "lossd")
                    title = f"({rows}, {classes}) {dtype}{' + gradient' * gradient} {name}"
                    run.note("peers", title, moved, ms, spread, C=classes, dtype=dtype, gradient=gradient, peer=name)
                del one, x, works


def ragged(run: Run, count: int) -> None:
    """`count` requests in one batch, beside a launch each, torch a request, and torch on rows padded to the longest."""
    measure_copy(run)
    shapes = ragged_shapes(count)
    for gradient in (False, True):
        jobs = [index_job(rows, classes, "float32", gradient) for rows, classes in shapes]
        together = batch_on_device(jobs, run.device)
        together.launch()
        for number in range(0, count, max(1, count // 20)):
            check(together, number, "float32", f"request {number} of a ragged batch")
        alone = [batch_on_device([job], run.device) for job in jobs]
        tensors = [one.rows(0).contiguous() for one in alone]
        targets = [torch.from_numpy(job.target.values).to(run.device) for job in jobs if job.target is not None]
        longest, total = max(c for _, c in shapes), sum(r for r, _ in shapes)
        padded = torch.full((total, longest), -torch.inf, device=run.device)
        row = 0
        for tensor in tensors:
            padded[row : row + tensor.shape[0], : tensor.shape[1]] = tensor
            row += tensor.shape[0]
        of_padded = index_job(total, longest, "float32", gradient)
        own_padded = batch_on_device([of_padded], run.device)
        moved = sum(moved_bytes(rows, classes, 4, gradient) for rows, classes in shapes)
        y = torch.cat(targets)
        works: dict[str, tuple[Callable[[], object], bool]] = {
            "one batch": (together.launch, False),
            "one batch, as a graph": (together.launch, True),
            "a batch each": (_launches(alone), False),
            "torch, one after another": (_each(tensors, targets, gradient), False),
            "torch, padded": (PEERS["eager"](padded, y, gradient), False),
            "padded": (own_padded.launch, False),
        }
        for name, (work, graph) in works.items():
            ms, spread = run.clock.median_ms(work, graph)
            title = f"{count} requests{' + gradient' * gradient}: {name}"
            run.note("ragged", title, moved, ms, spread, requests=count, gradient=gradient, way=name)


def _launches(alone: list[BatchOnDevice]) -> Callable[[], object]:
    def work() -> None:
        for one in alone:
            one.launch()

    return work


def _each(tensors: list[torch.Tensor], targets: list[torch.Tensor], gradient: bool) -> Callable[[], object]:
    works = [PEERS["eager"](x, y, gradient) for x, y in zip(tensors, targets, strict=True)]
    return lambda: [work() for work in works]


def elementwise(run: Run, elements: int) -> None:
    """BCE with logits, and sigmoid, of many elements, beside torch eager."""
    from gpu_elements import elementwise_cases

    measure_copy(run)
    for name, moved, ours, theirs in elementwise_cases(elements, run.device):
        for title, work in ((name, ours), (f"{name}, torch", theirs)):
            ms, spread = run.clock.median_ms(work, graph=work is ours)
            run.note("elementwise", title, moved, ms, spread)


def requests(run: Run, count: int, size: int) -> None:
    """Requests of `size` bytes from host memory to results in host memory: packed, and from pinned regions."""
    from gpu_requests import request_cases

    measure_copy(run)
    for name, moved, work in request_cases(count, size, run.device):
        ms, spread = run.clock.median_ms(work, graph=False)
        run.note("requests", name, moved, ms, spread, requests=count)


class OutOfTime(BaseException):
    """SIGTERM: what was measured so far is kept."""


def out_of_time(*_: object) -> None:
    raise OutOfTime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ("correctness", "kernels", "peers", "ragged", "elementwise", "requests")
    parser.add_argument("--part", action="append", choices=names, help="default: all of them")
    parser.add_argument("--peers", default="eager,liger,quack", help="eager, compile, liger, quack; compile is slow")
    parser.add_argument("--classes", help="numbers of classes, with commas")
    parser.add_argument("--seconds", type=float, default=0.5, help="of measuring, at most, for each figure")
    parser.add_argument("--out", type=Path, help="JSON: this run's parts replace those in it")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes, on a CPU under Triton's interpreter")
    options = parser.parse_args()
    if options.dry_run != (os.environ.get("TRITON_INTERPRET") == "1"):
        sys.exit("--dry-run goes with TRITON_INTERPRET=1, and only with it")
    if not options.dry_run and not torch.cuda.is_available():
        sys.exit("there is no CUDA device (--dry-run tries the program without)")
    device = "cpu" if options.dry_run else "cuda"
    classes = tuple(map(int, options.classes.split(","))) if options.classes else CLASSES
    if options.dry_run:
        np.seterr(all="ignore")
    run = Run(
        device,
        Clock(device, options.seconds),
        1 << 16 if options.dry_run else BUFFER_BYTES,
        classes,
        options.peers.split(","),
    )
    small = options.dry_run
    parts: dict[str, Callable[[], None]] = {
        "correctness": lambda: correctness(run),
        "kernels": lambda: kernels(run),
        "peers": lambda: peers(run),
        "ragged": lambda: ragged(run, 8 if small else 1000),
        "elementwise": lambda: elementwise(run, 10_000 if small else 1 << 28),
        "requests": lambda: requests(run, 6 if small else 512, 1 << 14 if small else 1 << 20),
    }
    signal.signal(signal.SIGTERM, out_of_time)
    for name in options.part or names:
        cut = False
        try:
            parts[name]()
        except OutOfTime:
            cut = True
        if options.out and not options.dry_run:
            gpu_record.save(options.out, run.device, run.found, name)
        if cut:
            sys.exit(f"{name}: out of time; kept is what was measured so far")


if __name__ == "__main__":
    main()
