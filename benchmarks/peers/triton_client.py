"""Triton's own clients for the models of triton_model.py.

PYTHONPATH=benchmarks .venv/peers/bin/python -m peers.triton_client ADDRESS
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as grpc
import tritonclient.grpc.aio as aio
import tritonclient.utils.shared_memory as shared_memory

from peers.case import Array, Case
from peers.worker import Cases, Sampler, answer, timed, together

PATH = "/inference.GRPCInferenceService/ModelInfer"
MODEL, WITH_GRADIENT = "cross_entropy", "cross_entropy_gradient"
REGION = "lossd_benchmark"


def inputs(case: Case) -> list[Any]:
    """The request's tensors, (1, N, C) and (1, N), as its client wants them."""
    logits = grpc.InferInput("logits", [1, *case.input.shape], "FP32")
    logits.set_data_from_numpy(case.input[None])
    labels = grpc.InferInput("labels", [1, *case.target.shape], "INT64")
    labels.set_data_from_numpy(case.target[None])
    return [logits, labels]


def read(result: Any, gradient: bool = False) -> tuple[float, Array | None]:
    """The loss, and its gradient."""
    return float(result.as_numpy("loss")[0, 0]), result.as_numpy("gradient")[0] if gradient else None


class TritonClient:
    def __init__(self, address: str) -> None:
        self._address = address
        self._client = grpc.InferenceServerClient(address)
        self._cases = Cases()
        self._sampler = Sampler()
        self._region: tuple[str, Any] | None = None

    def message(self, case: str, file: str, model: str = MODEL) -> dict[str, Any]:
        """Writes the request for a client that knows no Triton; tells its path and metadata."""
        message = grpc.service_pb2.ModelInferRequest(model_name=model)
        for tensor in inputs(self._cases[case]):
            message.inputs.append(tensor._get_tensor())
            message.raw_input_contents.append(tensor._get_content())
        Path(file).write_bytes(message.SerializeToString())
        return {"path": PATH, "metadata": {}}

    def count(self, model: str = MODEL) -> int:
        """Requests that the server has answered with a result."""
        statistics = self._client.get_inference_statistics(model)
        return int(statistics.model_stats[0].inference_stats.success.count)

    def calls(self, case: str, concurrency: int, count: int, model: str = MODEL) -> dict[str, float]:
        found = self._cases[case]

        async def run() -> dict[str, float]:
            async with aio.InferenceServerClient(self._address) as client:

                async def call() -> float:
                    return read(await client.infer(model, inputs(found)))[0]

                for _ in range(50):
                    await call()
                return await together(call, found, concurrency, count)

        return asyncio.run(run())

    def evaluate(self, case: str, gradient: bool, way: str, times: int) -> list[float]:
        """way: "unary", or "shared_memory": the logits lie in a region of the server's; a gradient is put there."""
        found = self._cases[case]
        once = self._in_region(case, gradient) if way == "shared_memory" else self._by_message(found, gradient)
        return timed(once, found, times)

    def _by_message(self, case: Case, gradient: bool) -> Callable[[], tuple[float, Array | None]]:
        model = WITH_GRADIENT if gradient else MODEL
        return lambda: read(self._client.infer(model, inputs(case)), gradient)

    def _in_region(self, case: str, gradient: bool) -> Callable[[], tuple[float, Array | None]]:
        found = self._cases[case]
        nbytes = found.input.nbytes
        handle = self._filled(case)
        tensors, outputs = inputs(found), [grpc.InferRequestedOutput("loss")]
        tensors[0].set_shared_memory(REGION, nbytes)
        if not gradient:
            return lambda: read(self._client.infer(MODEL, tensors, outputs=outputs))
        outputs.append(grpc.InferRequestedOutput("gradient"))
        outputs[1].set_shared_memory(REGION, nbytes, offset=nbytes)

        def once() -> tuple[float, Array | None]:
            loss, _ = read(self._client.infer(WITH_GRADIENT, tensors, outputs=outputs))
            written: Array = shared_memory.get_contents_as_numpy(handle, np.float32, found.input.shape, offset=nbytes)
            return loss, written

        return once

    def _filled(self, case: str) -> Any:
        """The region that holds the case's logits, with room for their gradient behind them."""
        if self._region is None or self._region[0] != case:
            self.drop_region()
            logits = self._cases[case].input
            key = f"/{REGION}_{os.getpid()}"
            handle = shared_memory.create_shared_memory_region(REGION, key, 2 * logits.nbytes)
            shared_memory.set_shared_memory_region(handle, [logits])
            self._client.register_system_shared_memory(REGION, key, 2 * logits.nbytes)
            self._region = (case, handle)
        return self._region[1]

    def drop_region(self) -> None:
        if self._region is not None:
            self._client.unregister_system_shared_memory(REGION)
            shared_memory.destroy_shared_memory_region(self._region[1])
            self._region = None

    def sample(self, case: str, model: str = MODEL) -> None:
        found = self._cases[case]
        self._sampler.start(lambda: read(self._client.infer(model, inputs(found)))[0], found)

    def sampled(self) -> dict[str, int]:
        return self._sampler.stop()

    def drop(self) -> None:
        """Forgets every case."""
        self.drop_region()
        self._cases.drop()


if __name__ == "__main__":
    it = TritonClient(sys.argv[1])
    verbs = (it.message, it.count, it.calls, it.evaluate, it.sample, it.sampled, it.drop)
    try:
        answer({verb.__name__: verb for verb in verbs})
    finally:
        it.drop_region()
