"""How jobs reach the device and come back: packed into batches that overlap on several streams."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lossd_server.backends.triton.batch import DeviceBatch
from lossd_server.backends.triton.device import STREAMS, Device, as_tensor, device_error
from lossd_server.backends.triton.kernel_variants import launch_variant
from lossd_server.backends.triton.operand_conversion import words
from lossd_server.jobs.job import Computed, Fault, Launch
from lossd_server.jobs.slicing import items, piece_items, slice_job

# Bytes read and written by one batch: a few hundred microseconds of PCIe, so that the first copy is not waited for
# long, and launches do not show.
BATCH_BYTES = 16 << 20
ROW_FAULTS = frozenset({Fault.CLASS_OUT_OF_RANGE, Fault.EMPTY_COUNTS})  # whose index is a row's


@dataclass(frozen=True, slots=True)
class LaunchSlice:
    """Items of launch `number`, from `first` on, as a launch of their own; `of`: items of the whole."""

    number: int
    launch: Launch
    first: int
    of: int


@dataclass(frozen=True, slots=True)
class BatchInFlight:
    """A batch on its way. kept: what copies still read."""

    pieces: list[LaunchSlice]
    batch: DeviceBatch
    results: torch.Tensor
    mark: object
    kept: tuple[torch.Tensor, ...]


def make_batches(launches: Sequence[Launch], budget: int = BATCH_BYTES) -> Iterator[list[LaunchSlice]]:
    """The launches in batches of about `budget` bytes, in order; a larger job in pieces.

    Not where its class weights have a gradient: that is one sum over all rows.
    """
    waiting: list[LaunchSlice] = []
    size = 0
    for number, launch in enumerate(launches):
        whole = items(launch.job)
        step = whole if launch.job.weight_gradient else piece_items(launch.job, budget)
        for first in range(0, whole, step) if step < whole else (0,):
            job = slice_job(launch.job, first, min(step, whole - first)) if step < whole else launch.job
            if waiting and size + job.work_bytes > budget:
                yield waiting
                waiting, size = [], 0
            waiting.append(LaunchSlice(number, replace(launch, job=job), first, whole))
            size += job.work_bytes
    if waiting:
        yield waiting


def run_launches(
    device: Device, launches: Sequence[Launch], direct: Callable[[npt.NDArray[Any]], bool]
) -> list[Computed]:
    """Computes every launch, in order. While one batch is computed, the next is packed and copied over, and the last
    copied back. direct: whether the device may copy an operand from where it lies. Raises as `Backend.run`.
    """
    found: list[list[tuple[LaunchSlice, Computed]]] = [[] for _ in launches]
    in_flight: deque[BatchInFlight] = deque()
    size = 0

    def land() -> None:
        oldest = in_flight.popleft()
        device.wait(oldest.mark)
        for piece, computed in zip(oldest.pieces, oldest.batch.results(oldest.results.numpy()), strict=True):
            found[piece.number].append((piece, computed))

    try:
        for pieces in make_batches(launches):
            batch = DeviceBatch([piece.launch for piece in pieces], direct)
            size = batch.words * 8
            if len(in_flight) == STREAMS:
                land()
            with device.turn():
                in_flight.append(_begin(device, pieces, batch))
        while in_flight:
            land()
    except Exception as error:
        meaning = device_error(error, size)
        if isinstance(meaning, MemoryError):
            for oldest in in_flight:  # nothing may be freed that a copy still reads
                device.wait(oldest.mark)
        raise meaning from error
    return [_join_slices(parts) for parts in found]


def _begin(device: Device, pieces: list[LaunchSlice], batch: DeviceBatch) -> BatchInFlight:
    staged = device.staging(batch.staged_words)
    batch.fill(staged.numpy())
    memory = device.memory(batch.words)
    device.upload(staged, memory[: batch.staged_words])
    raw = memory.view(torch.uint8)
    for piece in batch.direct:
        source = as_tensor(words(piece.values))
        target = raw[piece.offset : piece.offset + piece.size]
        if piece.pitch_bytes:
            target = target.view(-1, piece.pitch_bytes)[:, : piece.row_bytes]
            source = source.view(-1, piece.row_bytes)
        device.upload(source, target)
    out = device.memory(batch.result_words)
    for variant, first, count in batch.groups:
        launch_variant(variant, memory, out, first, count, batch.work)
    results = device.download(out)
    return BatchInFlight(pieces, batch, results, device.mark(), (staged, memory, out))


def _join_slices(parts: list[tuple[LaunchSlice, Computed]]) -> Computed:
    """The results of a job's pieces as one; the first fault, at its place in the whole."""
    if len(parts) == 1:
        return parts[0][1]
    for piece, computed in parts:
        if computed.fault is not None:
            kind, index = computed.fault
            layout = piece.launch.job.layout
            count = items(piece.launch.job)
            each = (layout.rows if kind in ROW_FAULTS else layout.elements) // count
            return Computed(fault=(kind, index + piece.first * each))

    def joined(take: Callable[[Computed], npt.NDArray[Any] | None]) -> npt.NDArray[Any] | None:
        arrays = [array for _, computed in parts if (array := take(computed)) is not None]
        return np.concatenate(arrays) if arrays else None

    names = parts[0][1].outputs
    return Computed(
        losses=joined(lambda computed: computed.losses),
        chunk_sums=joined(lambda computed: computed.chunk_sums),
        values=joined(lambda computed: computed.values),
        input_gradient=joined(lambda computed: computed.input_gradient),
        target_gradient=joined(lambda computed: computed.target_gradient),
        outputs={name: np.concatenate([computed.outputs[name] for _, computed in parts]) for name in names},
    )
