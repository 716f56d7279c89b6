"""The device that kernels run on: CUDA with streams and pinned memory, or the CPU under Triton's interpreter."""

from __future__ import annotations

import itertools
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from lossd_server.backends import DeviceLost
from lossd_server.config import gpus

# Batches in flight: one is packed and copied over, one computed, one copied back.
STREAMS = 3
# Of the device's memory, what this process may take: beyond it a batch is refused, and nobody else is harmed.
MEMORY_SHARE = 0.9
NUMBER = 0  # of those that this process sees: a worker of several sees one
PORTABLE = 1  # cudaHostRegisterPortable: pinned for every stream and context


class Device(Protocol):
    """Memory, copies and streams. Tensors are int64, one-dimensional."""

    description: str

    @contextmanager
    def next_stream(self) -> Iterator[None]:
        """What is begun inside runs in order, on the next of the device's streams."""

    def allocate_staging(self, words: int) -> torch.Tensor:
        """Pinned host memory: copies to and from the device run beside everything else."""

    def allocate(self, words: int) -> torch.Tensor:
        """Device memory; MemoryError where there is none."""

    def upload(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """Begins to copy host memory over."""

    def download(self, source: torch.Tensor) -> torch.Tensor:
        """Begins to copy device memory back."""

    def record_event(self) -> object:
        """An event for `wait`: everything that was begun in this stream so far."""

    def wait(self, event: object) -> None:
        """Returns when everything before the event is done."""

    def elapsed_ns(self, before: object, after: object) -> int:
        """Between two events of one stream that are done."""

    def pin(self, address: int, size: int) -> None:
        """Pins host memory that was allocated elsewhere, so that copies can read it directly."""

    def unpin(self, address: int) -> None:
        """Unpins it."""

    def memory(self) -> tuple[int, int] | None:
        """Bytes in use, and all there are; None where it cannot be told."""

    def close(self) -> None:
        """Gives cached memory back."""


class Cuda:
    """The first CUDA device that this process sees. torch's allocators are its pools: they keep what is freed, by
    stream.
    """

    def __init__(self) -> None:
        properties = torch.cuda.get_device_properties(NUMBER)
        words = (properties.name, f"{properties.total_memory / 2**30:.0f} GiB", gpus.name_of_first(os.environ))
        self.description = ", ".join(filter(None, words))
        torch.cuda.set_per_process_memory_fraction(MEMORY_SHARE, NUMBER)
        streams = [torch.cuda.Stream(NUMBER) for _ in range(STREAMS)]  # type: ignore[no-untyped-call] # annotated in part
        self._streams = itertools.cycle(streams)
        self._lock = Lock()

    @contextmanager
    def next_stream(self) -> Iterator[None]:
        with self._lock:
            stream = next(self._streams)
        with torch.cuda.stream(stream):
            yield

    def allocate_staging(self, words: int) -> torch.Tensor:
        return torch.empty(words, dtype=torch.int64, pin_memory=True)

    def allocate(self, words: int) -> torch.Tensor:
        return torch.empty(words, dtype=torch.int64, device="cuda")

    def upload(self, source: torch.Tensor, target: torch.Tensor) -> None:
        target.copy_(source, non_blocking=True)

    def download(self, source: torch.Tensor) -> torch.Tensor:
        return self.allocate_staging(source.numel()).copy_(source, non_blocking=True)

    def record_event(self) -> object:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def wait(self, event: object) -> None:
        assert isinstance(event, torch.cuda.Event)
        event.synchronize()

    def elapsed_ns(self, before: object, after: object) -> int:
        assert isinstance(before, torch.cuda.Event)
        assert isinstance(after, torch.cuda.Event)
        return int(before.elapsed_time(after) * 1e6)

    def pin(self, address: int, size: int) -> None:
        with torch.cuda.device(NUMBER):  # not in a context on another one
            runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
            torch.cuda.check_error(runtime.cudaHostRegister(address, size, PORTABLE))

    def unpin(self, address: int) -> None:
        with torch.cuda.device(NUMBER):
            runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
            torch.cuda.check_error(runtime.cudaHostUnregister(address))

    def memory(self) -> tuple[int, int] | None:
        try:
            free, total = torch.cuda.mem_get_info(NUMBER)
        except RuntimeError:  # torch's errors are; whoever computes finds out what is wrong
            return None
        return total - free, total

    def close(self) -> None:
        torch.cuda.empty_cache()


class Interpreter:
    """The CPU: its memory is the device's memory, and every copy is done when it returns. One batch at a time."""

    description = "CPU, by Triton's interpreter"

    def __init__(self) -> None:
        self._lock = Lock()  # the interpreter patches triton.language while a kernel runs

    @contextmanager
    def next_stream(self) -> Iterator[None]:
        with self._lock, np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # numpy's, of tiles that hold nothing but NaN
            yield

    def allocate_staging(self, words: int) -> torch.Tensor:
        return torch.empty(words, dtype=torch.int64)

    def allocate(self, words: int) -> torch.Tensor:
        return torch.empty(words, dtype=torch.int64)

    def upload(self, source: torch.Tensor, target: torch.Tensor) -> None:
        target.copy_(source)

    def download(self, source: torch.Tensor) -> torch.Tensor:
        return source

    def record_event(self) -> object:
        return time.monotonic_ns()

    def wait(self, event: object) -> None:
        pass

    def elapsed_ns(self, before: object, after: object) -> int:
        assert isinstance(before, int)
        assert isinstance(after, int)
        return after - before

    def pin(self, address: int, size: int) -> None:
        pass

    def unpin(self, address: int) -> None:
        pass

    def memory(self) -> None:
        """The machine's own."""

    def close(self) -> None:
        pass


def device_error(error: Exception, size: int) -> Exception:
    """What an error of the device means to the caller: MemoryError, DeviceLost, or itself.

    Any CUDA error but exhausted memory leaves the context in a state that later calls fail in. size: bytes of the
    batch.
    """
    said = str(error)
    if isinstance(error, torch.OutOfMemoryError) or "out of memory" in said:
        return MemoryError(f"the device has no room for a batch of {size} bytes")
    if isinstance(error, torch.AcceleratorError) or "CUDA error" in said or "Triton Error [CUDA]" in said:
        return DeviceLost(said.partition("\n")[0])
    return error


def as_tensor(values: npt.NDArray[np.uint8]) -> torch.Tensor:
    """Bytes as a tensor without a copy, read-only ones too (it is only read). They must outlive the tensor."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the array is read-only
        return torch.from_numpy(values)
