"""What gpu.py times: jobs laid out in device memory as the server lays them out, and how time is taken there."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lossd.v1 import tensor_pb2 as pb
from lossd_server.backends.triton import descriptor
from lossd_server.backends.triton.batch import DeviceBatch
from lossd_server.backends.triton.kernel_variants import launch_variant
from lossd_server.jobs.job import Computed, Formula, Job, Launch, Layout
from lossd_server.tensors.array import STORAGE, Array

DTYPES = {"float32": pb.DATA_TYPE_FLOAT32, "bfloat16": pb.DATA_TYPE_BFLOAT16, "float16": pb.DATA_TYPE_FLOAT16}
TORCH: dict[int, torch.dtype] = {
    pb.DATA_TYPE_FLOAT32: torch.float32,
    pb.DATA_TYPE_BFLOAT16: torch.bfloat16,
    pb.DATA_TYPE_FLOAT16: torch.float16,
}
STAGED_BYTES = 1 << 20  # larger operands are made on the device, and never in host memory


def index_job(rows: int, classes: int, dtype: str, gradient: bool, **options: Any) -> Job:
    """Cross-entropy of (rows, classes) logits whose memory nobody touches, with random classes."""
    code = DTYPES[dtype]
    target = np.random.default_rng(rows + classes).integers(0, classes, rows)
    return Job(
        rpc="CrossEntropy",
        formula=Formula.CROSS_ENTROPY_INDEX,
        layout=Layout(rows, classes, 1),
        compute=np.dtype(np.float32),
        input=Array(np.empty(rows * classes, STORAGE[code]), code, (rows, classes)),
        target=Array(target, pb.DATA_TYPE_INT64, (rows,)),
        input_gradient=gradient,
        **options,
    )


@dataclass(frozen=True)
class BatchOnDevice:
    """A batch in device memory: `launch` computes it, again and again."""

    batch: DeviceBatch
    memory: torch.Tensor
    out: torch.Tensor

    def launch(self) -> None:
        for variant, first_item, count in self.batch.launches:
            launch_variant(variant, self.memory, self.out, first_item, count, self.batch.work_list)

    def rows(self, number: int, target: bool = False) -> torch.Tensor:
        """The logits (or the target's distribution) of a job: [rows, classes], strided where rows have a pitch."""
        word = (descriptor.TARGET if target else descriptor.INPUT).value
        return self._view(self.memory, number, word)

    def gradient(self, number: int) -> torch.Tensor:
        """The input's gradient of job `number`, likewise."""
        return self._view(self.out, number, descriptor.INPUT_GRADIENT.value)

    def losses(self, number: int) -> torch.Tensor:
        """Float64, one a row."""
        offset = self.batch.word(number, descriptor.LOSSES.value) // 8
        return self.out.view(torch.float64)[offset : offset + self.batch.jobs[number].layout.rows]

    def results(self) -> list[Computed]:
        return list(self.batch.results(self.out.cpu().numpy()))

    def poison(self) -> None:
        """Fills what kernels write with NaN, so that what they leave out shows."""
        self.out.fill_(-1)

    def _view(self, memory: torch.Tensor, number: int, word: int) -> torch.Tensor:
        layout = self.batch.jobs[number].layout
        dtype = TORCH[self.batch.word(number, word + 1)]
        pitch = self.batch.word(number, descriptor.PITCH.value) if layout.inner == 1 else layout.classes
        entries = memory.view(torch.uint8)[self.batch.word(number, word) :]
        rows = entries[: layout.rows * pitch * dtype.itemsize].view(dtype)
        return rows.view(layout.rows, pitch)[:, : layout.classes]


def batch_on_device(jobs: Sequence[Job], device: str, deviation: float = 2.0) -> BatchOnDevice:
    """Descriptors, work list and small operands copied over, logits random on the device, results poisoned."""
    scale = [1.0 / max(1, job.layout.rows) for job in jobs]
    launches = [Launch(job, factor) for job, factor in zip(jobs, scale, strict=True)]
    batch = DeviceBatch(launches, lambda values: values.nbytes > STAGED_BYTES)
    staged = torch.empty(batch.staged_words, dtype=torch.int64)
    batch.fill(staged.numpy())
    memory = torch.empty(batch.words, dtype=torch.int64, device=device)
    memory[: batch.staged_words].copy_(staged)
    found = BatchOnDevice(batch, memory, torch.empty(batch.result_words, dtype=torch.int64, device=device))
    found.poison()
    generator = torch.Generator(device).manual_seed(1)
    for number in range(len(jobs)):
        found.rows(number).normal_(0, deviation, generator=generator)
    return found


class Clock:
    """Milliseconds of device work: a graph's replays between two events; on a CPU (a dry run) one call's wall time."""

    def __init__(self, device: str, seconds: float) -> None:
        self._cuda = device == "cuda"
        self._seconds = seconds

    def median_ms(self, work: Callable[[], object], graph: bool = True) -> tuple[float, float]:
        """Median, and the spread: the difference of the quartiles. graph: many launches, captured once."""
        if not self._cuda:
            begin = time.perf_counter()
            work()
            return (time.perf_counter() - begin) * 1e3, 0.0
        once = _captured(work) if graph else work
        for _ in range(3):
            once()
        torch.cuda.synchronize()
        times: list[float] = []
        begin = time.perf_counter()
        while len(times) < 10 or (time.perf_counter() - begin < self._seconds and len(times) < 200):
            first, last = _event(), _event()
            first.record()
            once()
            last.record()
            last.synchronize()
            times.append(first.elapsed_time(last))
        lower, middle, upper = statistics.quantiles(times, n=4)
        return middle, upper - lower


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call] # as above


def _captured(work: Callable[[], object]) -> Callable[[], object]:
    """`work` as a CUDA graph, so that the host's time between launches is left out."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call] # torch annotates it in part
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def ragged_shapes(count: int, seed: int = 1) -> list[tuple[int, int]]:
    """Rows and classes of `count` requests, as a service gets them: mostly few rows, classes of many kinds."""
    rng = np.random.default_rng(seed)
    classes = itertools.cycle([10, 100, 256, 1000, 1000, 4096, 32000, 128])
    return [(int(rng.integers(1, 33)), next(classes)) for _ in range(count)]
