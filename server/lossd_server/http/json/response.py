"""JSON of an answer: what the client's result has, by its names; and of a refusal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

from lossd_server.call.contract import Status
from lossd_server.http.json.request import GRADS
from lossd_server.http.json.tensors import COMPACT, write_number, write_tensor
from lossd_server.inference.models import AUXILIARY, Model
from lossd_server.telemetry.code_names import code_name
from lossd_server.wire.codec import METHODS

SECOND_NS = 1e9
# As google.rpc.Code says, by gRPC's number.
HTTP_STATUS = {
    0: 200, 1: 499, 2: 500, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400, 12: 501, 13: 500,
    14: 503, 15: 500, 16: 401,
}  # fmt: skip
RESOURCE_EXHAUSTED, CONTENT_TOO_LARGE = 8, 413


def write_response(model: Model, message: bytes, encoding: str, request_id: str) -> Iterator[str]:
    """The JSON of a loss's response, in pieces."""
    response: Any = cast("Any", GetMessageClass(METHODS[model.rpc].output_type)).FromString(message)
    yield f'{{"{model.result}":'
    yield from write_tensor(response.loss, encoding)
    grads = {name: f"{name}_gradient" for name in GRADS if response.HasField(f"{name}_gradient")}
    if grads:
        yield from _named("grads", {name: getattr(response, field) for name, field in grads.items()}, encoding)
    outputs = [name for name in AUXILIARY if response.outputs.HasField(name)]
    if outputs:
        yield from _named("outputs", {name: getattr(response.outputs, name) for name in outputs}, encoding)
    if not model.function:
        summary = response.summary
        yield (
            f',"summary":{{"loss_sum":{write_number(summary.loss_sum)},"weight_sum":{write_number(summary.weight_sum)},'
            f'"count":{summary.count}}}'
        )
    timing = response.timing
    took = {"queue_s": timing.queue_ns / SECOND_NS, "compute_s": timing.compute_ns / SECOND_NS}
    batch = {"batch_requests": timing.batch_requests, "batch_rows": timing.batch_rows}
    yield ',"timing":' + json.dumps(took | batch, separators=COMPACT)
    yield f',"request_id":{json.dumps(request_id)}}}\n'


def _named(name: str, tensors: dict[str, Any], encoding: str) -> Iterator[str]:
    yield f',"{name}":{{'
    for place, (key, tensor) in enumerate(tensors.items()):
        yield f'{"," if place else ""}"{key}":'
        yield from write_tensor(tensor, encoding)
    yield "}"


def refusal(status: Status, request_id: str) -> tuple[int, dict[str, Any], float | None]:
    """HTTP's status, the JSON, and the seconds after which it may be repeated, of a call that ended so."""
    error: dict[str, Any] = {
        "code": code_name(status.code),
        "reason": "",
        "field": "",
        "message": status.message,
        "metadata": {},
        "request_id": request_id,
    }
    retry_after_s = None
    raw = dict(status.trailers).get("grpc-status-details-bin", b"")
    for detail in status_pb2.Status.FromString(raw).details:
        info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            error["reason"], error["metadata"] = info.reason, dict(sorted(info.metadata.items()))
        elif detail.Unpack(bad) and bad.field_violations:
            error["field"] = bad.field_violations[0].field
        elif detail.Unpack(retry):
            error["retry_after_s"] = retry_after_s = retry.retry_delay.ToNanoseconds() / SECOND_NS
    code = HTTP_STATUS.get(status.code, 500)
    if status.code == RESOURCE_EXHAUSTED and retry_after_s is None:  # it will never fit
        code = CONTENT_TOO_LARGE
    return code, {"error": error}, retry_after_s
