"""Pipeline of batches: while one is computed, the next is packed and copied over, and the last is copied back."""

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
from lossd_server.backends.triton.operand_conversion import as_bytes
from lossd_server.jobs.job import Computed, Fault, Launch
from lossd_server.jobs.slicing import items, piece_items, slice_job

# Bytes read and written by one batch: a few hundred microseconds of PCIe, so that the first copy is not waited for
# long, and launches do not show.
BATCH_BYTES = 16 << 20
ROW_FAULTS = frozenset({Fault.CLASS_OUT_OF_RANGE, Fault.EMPTY_COUNTS})  # whose index is a row's


@dataclass(frozen=True, slots=True)
class LaunchSlice:
    """Items of launch `number`, from item `first` on, as a launch of their own."""

    number: int
    launch: Launch
    first: int


@dataclass(frozen=True, slots=True)
class BatchInFlight:
    """A batch that the device has begun. event: when its results are there; those before: when its copies over began,
    when they were there, and when it was computed. buffers: what is still read until then."""

    slices: list[LaunchSlice]
    batch: DeviceBatch
    results: torch.Tensor
    begun: object
    uploaded: object
    computed: object
    event: object
    buffers: tuple[torch.Tensor, ...]


def make_batches(launches: Sequence[Launch], budget: int = BATCH_BYTES) -> Iterator[list[LaunchSlice]]:
    """The launches in batches of about `budget` bytes, in order; a larger job in slices.

    Not where its class weights have a gradient: that is one sum over all rows.
    """
    batch: list[LaunchSlice] = []
    size = 0
    for number, launch in enumerate(launches):
        whole = items(launch.job)
        step = whole if launch.job.weight_gradient else piece_items(launch.job, budget)
        for first in range(0, whole, step) if step < whole else (0,):
            job = slice_job(launch.job, first, min(step, whole - first)) if step < whole else launch.job
            if batch and size + job.work_bytes > budget:
                yield batch
                batch, size = [], 0
            batch.append(LaunchSlice(number, replace(launch, job=job), first))
            size += job.work_bytes
    if batch:
        yield batch


def run_launches(
    device: Device,
    launches: Sequence[Launch],
    direct: Callable[[npt.NDArray[Any]], bool],
    transferred: Callable[[int], object],
) -> list[Computed]:
    """Computes every launch, in order. direct: whether the device may copy an operand from where it lies. transferred:
    told how many nanoseconds each batch was copied over and back.

    Raises as `Backend.run`.
    """
    found: list[list[tuple[LaunchSlice, Computed]]] = [[] for _ in launches]
    in_flight: deque[BatchInFlight] = deque()
    size = 0

    def finish_oldest() -> None:
        oldest = in_flight.popleft()
        device.wait(oldest.event)
        over = device.elapsed_ns(oldest.begun, oldest.uploaded)
        transferred(over + device.elapsed_ns(oldest.computed, oldest.event))
        for part, computed in zip(oldest.slices, oldest.batch.results(oldest.results.numpy()), strict=True):
            found[part.number].append((part, computed))

    try:
        for slices in make_batches(launches):
            batch = DeviceBatch([part.launch for part in slices], direct)
            size = batch.words * 8
            if len(in_flight) == STREAMS:
                finish_oldest()
            with device.next_stream():
                in_flight.append(_begin(device, slices, batch))
        while in_flight:
            finish_oldest()
    except Exception as error:
        meaning = device_error(error, size)
        if isinstance(meaning, MemoryError):
            for begun in in_flight:  # nothing may be freed that a copy still reads
                device.wait(begun.event)
        raise meaning from error
    return [_join_slices(parts) for parts in found]


def _begin(device: Device, slices: list[LaunchSlice], batch: DeviceBatch) -> BatchInFlight:
    """Packs a batch, and begins to copy it over, to compute it, and to copy its results back."""
    staged = device.allocate_staging(batch.staged_words)
    batch.fill(staged.numpy())
    memory = device.allocate(batch.words)
    begun = device.record_event()
    device.upload(staged, memory[: batch.staged_words])
    raw = memory.view(torch.uint8)
    for operand in batch.direct:
        source = as_tensor(as_bytes(operand.values))
        target = raw[operand.offset : operand.offset + operand.size]
        if operand.pitch_bytes:
            target = target.view(-1, operand.pitch_bytes)[:, : operand.row_bytes]
            source = source.view(-1, operand.row_bytes)
        device.upload(source, target)
    uploaded = device.record_event()
    out = device.allocate(batch.result_words)
    for variant, first_item, count in batch.launches:
        launch_variant(variant, memory, out, first_item, count, batch.work_list)
    computed = device.record_event()
    results = device.download(out)
    buffers = staged, memory, out
    return BatchInFlight(slices, batch, results, begun, uploaded, computed, device.record_event(), buffers)


def _join_slices(parts: list[tuple[LaunchSlice, Computed]]) -> Computed:
    """The results of a job's slices as one; the first fault, at its index in the whole."""
    if len(parts) == 1:
        return parts[0][1]
    for part, computed in parts:
        if computed.fault is not None:
            kind, index = computed.fault
            layout = part.launch.job.layout
            count = items(part.launch.job)
            each = (layout.rows if kind in ROW_FAULTS else layout.elements) // count
            return Computed(fault=(kind, index + part.first * each))

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
