"""The way of a request without its sockets: build → bytes → decode → check → evaluate → bytes → parse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lossd
from lossd import results
from lossd.request import build as requests
from lossd_server import losses
from lossd_server.backends import Backend
from lossd_server.engine.evaluate import evaluate
from lossd_server.errors import ServerError
from lossd_server.wire import codec
from tests.conformance.cases import Asked


def answers(backend: Backend, asked: Sequence[Asked]) -> list[lossd.Result]:
    """The results of many calls in one batch; raises the first ServerError."""
    calls = [requests.build(one.method, *one.tensors, **one.options) for one in asked]
    jobs = [losses.check(call.rpc, codec.decode_fields(call.rpc, call.request.SerializeToString())) for call in calls]
    found = []
    for call, answer in zip(calls, evaluate(backend, jobs), strict=True):
        if isinstance(answer, ServerError):
            raise answer
        body = codec.encode(answer, queue_ns=0, compute_ns=0, batch_requests=len(jobs), batch_rows=0)
        found.append(results.read_result(call, body))
    return found


def answer(backend: Backend, method: str, *tensors: Any, **options: Any) -> lossd.Result:
    """The result of one call alone."""
    return answers(backend, [Asked(method, tensors, options)])[0]
