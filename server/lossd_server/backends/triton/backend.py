"""`TritonBackend`: runs batches on a CUDA device, or on the CPU under Triton's interpreter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock, local

import numpy as np
import torch
import triton

from lossd_server.backends.triton.batch import Batch
from lossd_server.backends.triton.configuration import start
from lossd_server.backends.triton.rehearsal import rehearsals
from lossd_server.backends.triton.softmax import softmax_rows
from lossd_server.job import Computed, Launch


class TritonBackend:
    """One staging buffer a batch, one copy to the device, one launch for each kernel variant in it, one copy back.

    With TRITON_INTERPRET=1 in the environment before Triton is imported the same kernels run on CPU tensors.
    """

    name = "triton"
    inline_bytes = 0  # a batch always waits for the device: never on the caller's thread

    def __init__(self) -> None:
        self._interpreted = not isinstance(softmax_rows, triton.JITFunction)
        self._cuda = torch.cuda.is_available() and not self._interpreted
        if not self._cuda and not self._interpreted:
            raise RuntimeError("there is no CUDA device, and Triton's interpreter is off (TRITON_INTERPRET=1)")
        self.device = torch.cuda.get_device_name() if self._cuda else "CPU, by Triton's interpreter"
        # The interpreter patches triton.language while a kernel runs: one at a time.
        self._interpreter = Lock()
        self._thread = local()

    def warm_up(self, report: Callable[[str], None]) -> None:
        """Compiles or loads every kernel variant by running each once."""
        for title, launch in rehearsals():
            report(f"triton: {title}")
            self.run([launch])

    def run(self, launches: Sequence[Launch]) -> list[Computed]:
        """Computes every launch; MemoryError where host or device memory does not hold the batch."""
        batch = Batch(launches)
        try:
            with self._stream() as stream:
                staged = torch.empty(batch.words, dtype=torch.int64, pin_memory=self._cuda)
                batch.fill(staged.numpy())
                results = self._compute(batch, staged)
                if stream is not None:
                    stream.synchronize()
        except torch.OutOfMemoryError as error:
            raise MemoryError(f"the device has no room for a batch of {batch.words * 8} bytes") from error
        return list(batch.results(results.numpy()))

    def close(self) -> None:
        """Gives cached device memory back."""
        if self._cuda:
            torch.cuda.empty_cache()

    def _compute(self, batch: Batch, staged: torch.Tensor) -> torch.Tensor:
        """Copies over, launches, copies back: complete once the stream is synchronised."""
        if not self._cuda:
            results = torch.empty(batch.result_words, dtype=torch.int64)
            for configuration, first, count in batch.groups:
                start(configuration, staged, results, first, count, batch.work)
            return results
        words = staged.to("cuda", non_blocking=True)
        out = torch.empty(batch.result_words, dtype=torch.int64, device="cuda")
        for configuration, first, count in batch.groups:
            start(configuration, words, out, first, count, batch.work)
        results = torch.empty(batch.result_words, dtype=torch.int64, pin_memory=True)
        return results.copy_(out, non_blocking=True)

    @contextmanager
    def _stream(self) -> Iterator[torch.cuda.Stream | None]:
        """This thread's own CUDA stream; under the interpreter its lock, and numpy's warnings about NaN and ∞ off."""
        if not self._cuda:
            with self._interpreter, np.errstate(all="ignore"):
                yield None
            return
        if not hasattr(self._thread, "stream"):
            self._thread.stream = torch.cuda.Stream()  # type: ignore[no-untyped-call] # torch annotates it in part
        with torch.cuda.stream(self._thread.stream):
            yield self._thread.stream
