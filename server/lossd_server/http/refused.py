"""Refused requests: an error as JSON, as gRPC's callers are told of it, and counted where no call met it."""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import Response

from lossd_server.call.contract import Metadata, Status
from lossd_server.call.request_id import REQUEST_ID, request_id_of
from lossd_server.http.json.response import refusal
from lossd_server.metrics.http_refusals import HttpRefusals
from lossd_server.wire.status import status_of, told

JSON = "application/json"


class NamedRequest:
    """A request as far as it has an id: `call.record.NamedCall`."""

    def __init__(self, request: Request) -> None:
        given: Metadata = [(REQUEST_ID, value) for value in request.headers.getlist(REQUEST_ID)]
        self.request_id = request_id_of(given)


def told_refusal(error: Exception, rpc: str, named: NamedRequest, refusals: HttpRefusals) -> Response:
    """The answer to a request that this port refuses, counted."""
    refused = told(rpc, error, named)
    refusals.count(refused.reason)
    return ended(status_of(refused, named), named.request_id)


def ended(status: Status, request_id: str) -> Response:
    """The answer of a call that has ended with a status that is not OK."""
    code, error, retry_after_s = refusal(status, request_id)
    headers = {REQUEST_ID: request_id}
    if code == 401:
        headers["www-authenticate"] = "Bearer"
    if retry_after_s is not None:
        headers["retry-after"] = str(max(1, round(retry_after_s)))
    return Response(json.dumps(error, ensure_ascii=False) + "\n", code, headers, JSON)
