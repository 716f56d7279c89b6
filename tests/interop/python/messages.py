"""Requests of the interop cases, and what a program prints of the answers."""

from __future__ import annotations

import json
import sys

import numpy as np
from google.rpc import status_pb2
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from numpy.typing import NDArray

from lossd.v1 import loss_pb2 as loss
from lossd.v1 import service_pb2 as service
from lossd.v1 import tensor_pb2 as tensor

OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
KEEPALIVE = [("grpc.keepalive_time_ms", 10_000), ("grpc.http2.max_pings_without_data", 0)]
DEADLINE_S = 0.5
REFUSALS = 2000
# Streams: rows, classes, rows of a block.
WHOLE, HALVES = (1000, 100, 64), (8, 16, 4)


def float32(x: NDArray[np.float32]) -> tensor.Tensor:
    return tensor.Tensor(dtype=tensor.DATA_TYPE_FLOAT32, shape=x.shape, data=x.tobytes())


def logits(n: int, c: int) -> NDArray[np.float32]:
    return (np.arange(n * c) * 7919 % 10007 / 1000 - 5).astype(np.float32).reshape(n, c)


def targets(n: int, c: int) -> tensor.Tensor:
    return tensor.Tensor(dtype=tensor.DATA_TYPE_INT64, shape=[n], data=(np.arange(n) * 31 % c).tobytes())


def cross_entropy(n: int, c: int, target: tensor.Tensor | None = None) -> service.CrossEntropyRequest:
    return service.CrossEntropyRequest(
        input=float32(logits(n, c)), target=target or targets(n, c), gradients=[loss.GRADIENT_INPUT]
    )


def wrong() -> service.CrossEntropyRequest:
    """A target beyond the classes."""
    data = np.array([0, 9, 0, 0]).tobytes()
    return cross_entropy(4, 5, tensor.Tensor(dtype=tensor.DATA_TYPE_INT64, shape=[4], data=data))


def streamed(n: int, c: int, items: int) -> list[service.StreamRequest]:
    """Open, the blocks, End."""
    rows = tensor.Tensor(dtype=tensor.DATA_TYPE_FLOAT32, shape=[n, c], streamed=tensor.Streamed())
    request = service.CrossEntropyRequest(input=rows, target=targets(n, c), gradients=[loss.GRADIENT_INPUT])
    x = logits(n, c)
    return [
        service.StreamRequest(open=service.Open(evaluation_id=1, cross_entropy=request)),
        *(
            service.StreamRequest(
                block=service.Block(evaluation_id=1, first_item=first, input=float32(x[first : first + items]))
            )
            for first in range(0, n, items)
        ),
        service.StreamRequest(end=service.End(evaluation_id=1)),
    ]


def told(answer: service.CrossEntropyResponse, gradient: bytes | None = None) -> dict[str, float]:
    """The loss, and the gradient as one number that changes with every entry's value and place."""
    (value,) = np.frombuffer(answer.loss.data, np.float32)
    g = np.frombuffer(answer.input_gradient.data if gradient is None else gradient, np.float32).astype(np.float64)
    return {"loss": float(value), "gradient": float(np.abs(g) @ (1 + np.arange(g.size) % 97))}


def told_of_stream(answers: list[service.StreamResponse], code: int) -> dict[str, float]:
    *blocks, last = answers
    gradient = b"".join(one.block.input_gradient.data for one in blocks)
    return {**told(last.result.cross_entropy, gradient), "blocks": len(blocks), "code": code}


def told_of_error(code: int, details: bytes) -> dict[str, object]:
    info, bad = ErrorInfo(), BadRequest()
    for detail in status_pb2.Status.FromString(details).details:
        _ = detail.Unpack(info) or detail.Unpack(bad)
    fields = [one.field for one in bad.field_violations]
    return {"code": code, "reason": info.reason, "domain": info.domain, "fields": fields}


def pause() -> None:
    """Tells the test that this point is reached, and waits until it says to go on."""
    print("paused", flush=True)
    sys.stdin.readline()


def say(what: dict[str, object] | dict[str, float]) -> None:
    print(json.dumps(what), flush=True)
