"""`TritonBackend`: the backend that runs batches on a CUDA device, or on the CPU under Triton's interpreter."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import triton

from lossd_server.backends.triton.device import Cuda, Device, Interpreter
from lossd_server.backends.triton.kernels.softmax_general import softmax_general_kernel
from lossd_server.backends.triton.pinned_memory import PinnedRegions
from lossd_server.backends.triton.pipeline import run_launches
from lossd_server.backends.triton.warmup import warmup_launches
from lossd_server.jobs.job import Computed, Job, Launch

COPIED_NS = 0.2  # a byte: packed by the host at 5 GB/s, which takes longer than the way to the device


class TritonBackend:
    """Batches packed into pinned memory, copied over, computed by one launch a kernel variant, and copied back.

    With TRITON_INTERPRET=1 in the environment before Triton is imported the same kernels run on CPU tensors.
    """

    name = "triton"
    inline_ns = 0.0  # a batch always waits for the device: never on the caller's thread
    warm_up_steps = sum(1 for _ in warmup_launches())

    def __init__(self) -> None:
        interpreted = not isinstance(softmax_general_kernel, triton.JITFunction)
        if not interpreted and not torch.cuda.is_available():
            raise RuntimeError("there is no CUDA device, and Triton's interpreter is off (TRITON_INTERPRET=1)")
        self._device: Device = Interpreter() if interpreted else Cuda()
        self._pinned = PinnedRegions(self._device)
        self.transferred: Callable[[int], object] = lambda took_ns: None
        self.device = self._device.description

    def warm_up(self, report: Callable[[str], None]) -> None:
        """Compiles or loads the kernel variants that most requests need, by running each once."""
        for title, launch in warmup_launches():
            report(f"triton: {title}")
            self.run([launch])

    def run(self, launches: Sequence[Launch]) -> list[Computed]:
        """Computes every launch; MemoryError where host or device memory does not hold a batch, DeviceLost where the
        device cannot be used any more.
        """
        with self._pinned.reading():
            return run_launches(self._device, launches, self._pinned.holds, self.transferred)

    def kernel_ns(self, job: Job) -> float:
        """Of copying it to the device and back."""
        return job.work_bytes * COPIED_NS

    def prepare(self, launch: Launch, computed: Computed) -> None:
        """None: every batch is packed and copied over, prepared or not."""

    def room(self, jobs: int) -> None:
        """None: nothing is prepared."""

    def pin(self, address: int, size: int) -> None:
        """Pins a shared-memory region of `size` bytes: the device then copies operands from there directly."""
        self._pinned.add(address, size)

    def unpin(self, address: int) -> None:
        """Unpins the region at `address`, before it is unmapped."""
        self._pinned.remove(address)

    def device_memory(self) -> tuple[int, int] | None:
        """Bytes in use on the device, and all of it; None under the interpreter, and from a device that is lost."""
        return self._device.memory()

    def trim(self) -> None:
        """Nothing: pinned memory is costly to have again."""

    def age(self) -> None:
        """Nothing, as `trim`."""

    def close(self) -> None:
        """Gives cached device memory back."""
        self._device.close()
