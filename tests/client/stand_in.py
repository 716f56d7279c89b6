"""A server whose answers are scripted: what the transports are tested against, over a real socket.

It answers a loss with the first element of its input, and the input's gradient with the input.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import grpc
import numpy as np
from google.protobuf.message import Message

from lossd.protocol import HEALTH, PATHS
from lossd.v1 import service_pb2
from lossd_server import status
from lossd_server.errors import ServerError

_RPCS = {path: name for name, path in PATHS.items()}


class StandIn(grpc.GenericRpcHandler):
    """failures: what the next calls fail with, in order; a bare status code has no details, as if made on the way.
    held: calls wait until `release` is set or they are given up, which `abandoned` tells.
    """

    def __init__(self) -> None:
        self.rpcs: list[str] = []
        self.metadata: list[dict[str, Any]] = []
        self.failures: deque[ServerError | grpc.StatusCode] = deque()
        self.max_message_bytes = 16 << 20
        self.serving = b"\x08\x01"
        self.held = False
        self.entered, self.release, self.abandoned = threading.Event(), threading.Event(), threading.Event()
        self._server = grpc.server(ThreadPoolExecutor(8), handlers=[self], options=[("grpc.so_reuseport", 0)])
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self._server.stop(None).wait()

    def service(self, details: Any) -> Any:
        rpc = _RPCS[details.method]
        return grpc.unary_unary_rpc_method_handler(lambda body, context: self._answer(rpc, body, context))

    def _answer(self, rpc: str, body: bytes, context: Any) -> bytes:
        self.rpcs.append(rpc)
        self.metadata.append(dict(context.invocation_metadata()))
        if self.held:
            context.add_callback(self._give_up)
            self.entered.set()
            self.release.wait()
        if rpc == HEALTH:
            return self.serving
        if self.failures:
            failure = self.failures.popleft()
            if isinstance(failure, grpc.StatusCode):
                context.abort(failure, "made on the way")
            else:
                context.set_trailing_metadata(status.trailers(failure))
                context.abort(status.code(failure), status.message(failure))
        return self._response(rpc, body).SerializeToString()

    def _give_up(self) -> None:
        self.abandoned.set()
        self.release.set()

    def _response(self, rpc: str, body: bytes) -> Message:
        if rpc == "GetServerInfo":
            limits = service_pb2.Limits(max_message_bytes=self.max_message_bytes)
            answer = service_pb2.GetServerInfoResponse(version="0.0", losses=["BCE"], limits=limits)
            # float32, and a dtype of the future.
            return answer.FromString(answer.SerializeToString() + b"\x28\x16\x28\x63")
        request = getattr(service_pb2, f"{rpc}Request").FromString(body)
        first = np.frombuffer(request.input.data, np.float32)[:1]
        loss = request.input if rpc == "Activation" else {"dtype": 22, "data": first.tobytes()}
        response: Message = getattr(service_pb2, f"{rpc}Response")(
            loss=loss,
            input_gradient=request.input if request.gradients else None,
            summary={"loss_sum": 2.0, "weight_sum": 3.0, "count": 4},
            timing={"queue_ns": 1000, "compute_ns": 2000, "batch_requests": 5, "batch_rows": 6},
        )
        return response
