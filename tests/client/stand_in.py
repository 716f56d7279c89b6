"""A server whose answers are scripted: what the transports are tested against, over a real socket.

It answers a loss with the first element of its input, and the input's gradient with the input.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import Any, Self

import grpc
import numpy as np
from google.protobuf.message import Message

from lossd.rpc.protocol import HEALTH, PATHS, STREAM
from lossd.v1 import service_pb2
from lossd_server.errors import ServerError
from lossd_server.wire import status

_RPCS = {path: name for name, path in PATHS.items()}


class StandIn(grpc.GenericRpcHandler):
    """failures: what the next evaluations fail with; a bare status code has no details, as if made on the way.
    held: calls, save of GetServerInfo, wait until `release` is set or they are given up, which `abandoned` tells.
    cuts: after how many messages the next streams break off. streams: the messages of each stream so far. over: is
    released with each stream that is over, whichever way. instances: the servers that GetServerInfo answers for, one
    after another, the last for ever; their memory is nowhere.
    """

    def __init__(self) -> None:
        self.rpcs: list[str] = []
        self.metadata: list[dict[str, Any]] = []
        self.failures: deque[ServerError | grpc.StatusCode] = deque()
        self.max_message_bytes = self.max_item_bytes = 16 << 20
        self.cuts: deque[int] = deque()
        self.streams: list[list[service_pb2.StreamRequest]] = []
        self.over = threading.Semaphore(0)
        self.serving = b"\x08\x01"
        self.instances: deque[str] = deque([""])
        self.shared_memory_socket = "/nowhere/socket"
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
        if details.method == STREAM:
            return grpc.stream_stream_rpc_method_handler(self._stream)
        rpc = _RPCS[details.method]
        return grpc.unary_unary_rpc_method_handler(lambda body, context: self._answer(rpc, body, context))

    def _answer(self, rpc: str, body: bytes, context: Any) -> bytes:
        self.rpcs.append(rpc)
        self.metadata.append(dict(context.invocation_metadata()))
        if rpc == "GetServerInfo":
            return self._response(rpc, body).SerializeToString()
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
                context.abort(status.status_code(failure), status.status_message(failure))
        return self._response(rpc, body).SerializeToString()

    def _stream(self, bodies: Iterator[bytes], context: Any) -> Iterator[bytes]:
        """Answers each evaluation when all of it is there, each block that has a gradient at once."""
        self.rpcs.append("Stream")
        context.add_callback(self.over.release)
        said: list[service_pb2.StreamRequest] = []
        self.streams.append(said)
        cut = self.cuts.popleft() if self.cuts else None
        opened: dict[int, tuple[str, Any, bytes]] = {}
        for body in bodies:
            if len(said) == cut:
                context.abort(grpc.StatusCode.UNAVAILABLE, "cut on the way")
            message = service_pb2.StreamRequest.FromString(body)
            said.append(message)
            if self.held:
                context.add_callback(self._give_up)
                self.entered.set()
                self.release.wait()
            for answer in self._said(message, opened):
                yield answer.SerializeToString()

    def _said(
        self, message: service_pb2.StreamRequest, opened: dict[int, tuple[str, Any, bytes]]
    ) -> Iterator[service_pb2.StreamResponse]:
        for one in message.opens.opens:
            yield self._result(one.evaluation_id, *_request(one))
        if message.HasField("open"):
            rpc, request = _request(message.open)
            opened[message.open.evaluation_id] = rpc, deepcopy(request), b""
        if message.HasField("block"):
            block = message.block
            rpc, request, first = opened[block.evaluation_id]
            opened[block.evaluation_id] = rpc, request, first or block.input.data[:4]
            if request.gradients:
                yield service_pb2.StreamResponse(
                    block=service_pb2.BlockResult(
                        evaluation_id=block.evaluation_id, first_item=block.first_item, input_gradient=block.input
                    )
                )
        if message.HasField("end"):
            rpc, request, first = opened.pop(message.end.evaluation_id)
            request.ClearField("gradients")
            request.input.data = first
            yield self._result(message.end.evaluation_id, rpc, request)

    def _result(self, number: int, rpc: str, request: Any) -> service_pb2.StreamResponse:
        result = service_pb2.EvaluationResult(evaluation_id=number)
        if self.failures:
            failure = self.failures.popleft()
            assert isinstance(failure, ServerError)
            said = status.status(failure)
            result.failure.MergeFrom(
                service_pb2.Failure(evaluation_id=number, code=said.code, message=said.message, details=said.details)
            )
        else:
            field = next(
                one.name
                for one in result.DESCRIPTOR.fields
                if one.message_type and one.message_type.name == f"{rpc}Response"
            )
            getattr(result, field).MergeFrom(self._response(rpc, request.SerializeToString()))
        return service_pb2.StreamResponse(result=result)

    def _give_up(self) -> None:
        self.abandoned.set()
        self.release.set()

    def _response(self, rpc: str, body: bytes) -> Message:
        if rpc == "GetServerInfo":
            limits = service_pb2.Limits(max_message_bytes=self.max_message_bytes, max_item_bytes=self.max_item_bytes)
            answer = service_pb2.GetServerInfoResponse(version="0.0", losses=["BCE"], limits=limits)
            answer.instance_id = self.instances.popleft() if len(self.instances) > 1 else self.instances[0]
            if answer.instance_id:
                limits.max_shared_memory_bytes = 1 << 30
                answer.limits.MergeFrom(limits)
                answer.shared_memory_socket = self.shared_memory_socket
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


def _request(one: service_pb2.Open) -> tuple[str, Any]:
    request = getattr(one, str(one.WhichOneof("request")))
    return request.DESCRIPTOR.name.removesuffix("Request"), request
