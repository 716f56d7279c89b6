"""A Ray cluster with one replica of lossd's application, and one that has its calls through Serve's gRPC proxy.

    HTTP_PORT GRPC_PORT

By the interpreter that has Ray. Prints "serving"; ends with its input.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import ray
from ray import serve

from lossd.v1 import service_pb2 as pb
from lossd.v1 import tensor_pb2
from lossd_server.ray_app import app

DTYPES = {tensor_pb2.DATA_TYPE_FLOAT32: np.float32, tensor_pb2.DATA_TYPE_INT64: np.int64}
SERVICER = "lossd.v1.service_pb2_grpc.add_LossServiceServicer_to_server"


def array(tensor: tensor_pb2.Tensor) -> npt.NDArray[np.float32]:
    return np.frombuffer(tensor.data, DTYPES[tensor.dtype]).reshape(tensor.shape)


@serve.deployment(ray_actor_options={"num_cpus": 1}, max_ongoing_requests=1000)
class Proxied:
    """What everyone writes first: the mean loss by NumPy, for calls that Serve's proxy brings."""

    def CrossEntropy(self, request: pb.CrossEntropyRequest) -> pb.CrossEntropyResponse:
        logits, target = array(request.input), array(request.target)
        highest = logits.max(1, keepdims=True)
        sums = np.log(np.exp(logits - highest).sum(1)) + highest[:, 0]
        loss = np.float32((sums - logits[np.arange(len(logits)), target]).mean())
        return pb.CrossEntropyResponse(loss=tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT32, data=loss.tobytes()))


def main() -> None:
    http_port, grpc_port = map(int, sys.argv[1:])
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    ray.init(address="local", num_cpus=2, include_dashboard=False)
    serve.start(
        http_options={"host": "127.0.0.1", "port": http_port},
        grpc_options={"port": grpc_port, "grpc_servicer_functions": [SERVICER]},
    )
    serve.run(app({}), name="losses", route_prefix="/")
    proxied: Any = Proxied
    serve.run(proxied.bind(), name="proxied", route_prefix="/proxied")
    print("serving", file=said, flush=True)
    sys.stdin.read()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
