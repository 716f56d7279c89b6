"""The client of torch_server.py: generated classes, one message each way.

PYTHONPATH=benchmarks:client python -m peers.torch_client ADDRESS
"""

from __future__ import annotations

import sys

import grpc
import numpy as np

from lossd.v1 import loss_pb2, tensor_pb2
from lossd.v1 import service_pb2 as pb
from lossd.v1.service_pb2_grpc import LossServiceStub
from peers.case import Array
from peers.worker import Cases, answer, timed

OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
]


def message(array: Array) -> tensor_pb2.Tensor:
    dtype = tensor_pb2.DATA_TYPE_FLOAT32 if array.dtype == np.float32 else tensor_pb2.DATA_TYPE_INT64
    return tensor_pb2.Tensor(dtype=dtype, shape=array.shape, data=array.tobytes())


class TorchClient:
    def __init__(self, address: str) -> None:
        self._stub = LossServiceStub(grpc.insecure_channel(address, options=OPTIONS))
        self._cases = Cases()

    def evaluate(self, case: str, gradient: bool, way: str, times: int) -> list[float]:
        found = self._cases[case]
        wanted = [loss_pb2.GRADIENT_INPUT] if gradient else []

        def once() -> tuple[float, Array | None]:
            request = pb.CrossEntropyRequest(input=message(found.input), target=message(found.target), gradients=wanted)
            response = self._stub.CrossEntropy(request)
            loss = float(np.frombuffer(response.loss.data, np.float32)[0])
            if not gradient:
                return loss, None
            by_input = np.frombuffer(response.input_gradient.data, np.float32)
            return loss, by_input.reshape(response.input_gradient.shape)

        return timed(once, found, times)

    def drop(self) -> None:
        """Forgets every case."""
        self._cases.drop()


if __name__ == "__main__":
    it = TorchClient(sys.argv[1])
    answer({"evaluate": it.evaluate, "drop": it.drop})
