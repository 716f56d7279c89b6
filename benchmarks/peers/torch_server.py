"""What everyone writes first: `F.cross_entropy` behind the generated classes of gRPC, one call a request.

    PYTHONPATH=benchmarks:client python -m peers.torch_server

It speaks lossd's proto, without lossd. Prints `listening on ADDRESS`; SIGTERM ends it.
"""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import torch
import torch.nn.functional as F

from lossd.v1 import service_pb2 as pb
from lossd.v1 import tensor_pb2
from lossd.v1.service_pb2_grpc import LossServiceServicer, add_LossServiceServicer_to_server

OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)]
DTYPES = {tensor_pb2.DATA_TYPE_FLOAT32: np.float32, tensor_pb2.DATA_TYPE_INT64: np.int64}


def array(tensor: tensor_pb2.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(tensor.data, DTYPES[tensor.dtype]).reshape(tensor.shape).copy())


def message(tensor: torch.Tensor) -> tensor_pb2.Tensor:
    """A float32 tensor."""
    return tensor_pb2.Tensor(
        dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=list(tensor.shape), data=tensor.detach().numpy().tobytes()
    )


class Losses(LossServiceServicer):
    def CrossEntropy(self, request: pb.CrossEntropyRequest, context: grpc.ServicerContext) -> pb.CrossEntropyResponse:
        input, target = array(request.input), array(request.target)
        gradient = bool(request.gradients)
        loss = F.cross_entropy(input.requires_grad_(gradient), target)
        if not gradient:
            return pb.CrossEntropyResponse(loss=message(loss))
        (by_input,) = torch.autograd.grad(loss, input)
        return pb.CrossEntropyResponse(loss=message(loss), input_gradient=message(by_input))


def main() -> None:
    server = grpc.server(ThreadPoolExecutor(os.cpu_count()), options=OPTIONS)
    add_LossServiceServicer_to_server(Losses(), server)  # type: ignore[abstract]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    server.stop(None)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
