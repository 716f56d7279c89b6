"""The contract that every backend meets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from lossd_server.jobs.job import Computed, Job, Launch


class DeviceLost(RuntimeError):
    """The device cannot be used any more: nothing but a new process helps."""


class Prepared(Protocol):
    """A small job, described once. Those of one `kernel` can be computed together."""

    @property
    def record(self) -> bytes:
        """As the kernels read it: whoever computes it puts other addresses in."""

    @property
    def units(self) -> int:
        """What a piece of all of it counts to."""

    @property
    def kernel(self) -> Callable[..., None]:
        """What computes it."""

    @property
    def zero(self) -> Any:
        """0 in the type in which it is computed."""


class PreparedRoom(Protocol):
    """Memory in which prepared jobs are put together; of the thread that made it.

    records, pieces: addresses of the kernels' table and of its pieces, to be filled in.
    """

    records: int
    pieces: int

    def run(self, kernel: Callable[..., None], zero: Any, count: int) -> None:
        """Computes the first `count` pieces; each has its fault then, or −1."""


@runtime_checkable
class Pinning(Protocol):
    """A backend that copies operands from memory of others by itself, once it knows of it."""

    def pin(self, address: int, size: int) -> None:
        """Registers `size` bytes at `address`, for as long as they are mapped. RuntimeError where it cannot."""

    def unpin(self, address: int) -> None:
        """Ends that, before the memory is unmapped; waits for who reads it. Nothing where it was not registered."""


@runtime_checkable
class ReportsMemory(Protocol):
    """A backend whose device has memory of its own."""

    def device_memory(self) -> tuple[int, int] | None:
        """Bytes that are used, by whomever, and all there are; None where the device does not say."""


@runtime_checkable
class ReportsTransfers(Protocol):
    """A backend that copies to a device and back. transferred: is told how long a batch's copies took, in nanoseconds,
    by the thread that runs it."""

    transferred: Callable[[int], object]


class Backend(Protocol):
    """Computes batches. Thread-safe: two threads may be inside `run` at once."""

    name: str  # "numba" or "triton"
    device: str  # for people: "AMD EPYC, 2 threads"
    inline_ns: float  # a batch that takes no longer is worth computing on the caller's thread, without a hand-over

    warm_up_steps: int  # how often `warm_up` reports

    def warm_up(self, report: Callable[[str], None]) -> None:
        """Compiles or loads every kernel, telling `report` one line a step. Idempotent."""

    def run(self, launches: Sequence[Launch]) -> list[Computed]:
        """Computes every launch, in one pass over the batch; results in the order of `launches`.

        Never faults on any values. Raises MemoryError (and anything else) for the batch as a whole: the caller then
        runs the jobs one by one.
        """

    def kernel_ns(self, job: Job) -> float:
        """About how long the caller's thread is busy with a job once it is converted: rather more than less."""

    def prepare(self, launch: Launch, computed: Computed) -> Prepared | None:
        """A small job, to be computed many times with other numbers and places; computed: which answers it has.

        None where that gains nothing: such a job goes through `run`.
        """

    def room(self, jobs: int) -> PreparedRoom | None:
        """Room for so many prepared jobs, on this thread; None where none are prepared."""

    def trim(self) -> None:
        """Lets go of memory that is kept for the next batches: there have been none for a while. From any thread."""

    def age(self) -> None:
        """Lets go of what of it no batch has taken since the last time: there are many. From any thread."""

    def close(self) -> None:
        """Stops threads and gives memory back."""


def create(device: str = "auto", threads: int = 0) -> Backend:
    """The backend for `device` ("auto", "cpu", "cuda"); auto is cuda where a GPU and Triton are there, else cpu.

    threads: compute threads of the CPU backend; 0 = one for each core this process may use. A GPU is the first
    that this process sees (`config.gpus`). RuntimeErrors say in a sentence what is not there.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device must be one of auto, cpu, cuda, not {device!r}")
    if device != "cpu":
        from lossd_server.backends import triton

        missing = triton.missing()
        if missing is None:
            return triton.TritonBackend()
        if device == "cuda":
            raise RuntimeError(f"device cuda cannot be used: {missing}")
    from lossd_server.backends.numba import NumbaBackend

    return NumbaBackend(threads)
