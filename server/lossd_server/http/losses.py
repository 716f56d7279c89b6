"""Losses over HTTP: `POST /v1/losses/{loss}` as a call of the contract, and its end as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive

from lossd_server.call.request_id import REQUEST_ID
from lossd_server.errors import NotFound, TooLarge, invalid
from lossd_server.front.local.words import CallHead
from lossd_server.http.calls import WorkerCalls
from lossd_server.http.json.request import read_request
from lossd_server.http.json.response import write_response
from lossd_server.http.protocol import SUBJECT
from lossd_server.http.refused import JSON, NamedRequest, ended, told_refusal
from lossd_server.identity.callers import AUTHORIZATION
from lossd_server.inference.models import MODELS, SHOWN_BYTES
from lossd_server.metrics.http_refusals import HttpRefusals
from lossd_server.rpc.service import SERVICE
from lossd_server.wire.metadata import REQUEST_BYTES, RESPONSE_BYTES
from lossd_server.wire.status import shorten

# Text is a slow way to send numbers: `http.json.request` has the other bound.
MOST_BODY_BYTES = 256 << 10
# Of the message that answers: as many numbers in JSON are several times as long.
MOST_ANSWER_BYTES = 1 << 20
# Below the time that a connection may stand still.
TIMEOUT_S = 8.0
# What a call takes along from its request.
FORWARDED = (AUTHORIZATION, "traceparent", "tracestate")

T = TypeVar("T")


class LossesOverHttp:
    """calls: to the server's processes. refusals: counts what gets no further than here."""

    def __init__(self, calls: WorkerCalls, refusals: HttpRefusals) -> None:
        self._calls = calls
        self._refusals = refusals

    async def answer(self, request: Request) -> Response:
        """Of one request; whatever its end, it is JSON."""
        named = NamedRequest(request)
        name = request.path_params["loss"]
        try:
            return await self._answer(name, request, named)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it
        except Exception as error:
            return told_refusal(error, name, named, self._refusals)

    async def _answer(self, name: str, request: Request, named: NamedRequest) -> Response:
        model = MODELS.get(name)
        if model is None:
            raise _unknown(name)
        body = await _body(request)
        message, encoding = read_request(model, body)
        del body
        head = CallHead(
            f"/{SERVICE}/{model.rpc}",
            (
                *((key, value) for key in FORWARDED for value in request.headers.getlist(key)),
                (REQUEST_ID, named.request_id),
                (REQUEST_BYTES, str(len(message))),
                (RESPONSE_BYTES, str(MOST_ANSWER_BYTES)),
            ),
            _peer(request),
            request.scope["state"][SUBJECT],
            TIMEOUT_S,
            len(message),
        )
        status, answer = await _unless_gone(self._calls.call(head, message), request.receive)
        if status.code:
            return ended(status, named.request_id)
        text = "".join(write_response(model, answer, encoding, named.request_id))
        return Response(text, media_type=JSON, headers={REQUEST_ID: named.request_id})


async def _body(request: Request) -> bytes:
    """Raises InvalidRequest, and TooLarge as soon as that is known."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON or "content-encoding" in request.headers:
        shown = shorten(kind, SHOWN_BYTES)
        raise invalid(
            f"the body must be {JSON}, not compressed; this one says {shown or 'nothing'}",
            "WRONG_CONTENT_TYPE",
            type=shown,
        )
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:18]) > MOST_BODY_BYTES:
        raise _too_large(int(announced[:18]))
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MOST_BODY_BYTES:
            raise _too_large(size)
        chunks.append(chunk)
    return b"".join(chunks)


async def _unless_gone(answer: Awaitable[T], receive: Receive) -> T:
    """The answer. Raises ClientDisconnect, with the call given up, where its client goes first."""
    calling, leaving = asyncio.ensure_future(answer), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((calling, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not calling.done():
            raise ClientDisconnect
        return calling.result()
    finally:
        calling.cancel()
        leaving.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _peer(request: Request) -> str:
    client = request.client
    return "" if client is None else f"{client.host}:{client.port}"


def _too_large(size: int) -> TooLarge:
    return TooLarge(
        f"the body has at least {size} bytes, {MOST_BODY_BYTES} are taken over HTTP: send large tensors by gRPC"
        " (lossd.Client), which has no such limit",
        reason="BODY_TOO_LARGE",
        metadata={"bytes": size, "bound": MOST_BODY_BYTES},
    )


def _unknown(name: str) -> NotFound:
    shown = shorten(name, SHOWN_BYTES)
    return NotFound(
        f"there is no loss {shown!r}; there are {', '.join(MODELS)}",
        reason="UNKNOWN_LOSS",
        metadata={"loss": shown, "losses": ", ".join(MODELS)},
    )
