"""Application of the HTTP port: what each path answers. A page is one more Route."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from lossd_server.errors import NotFound
from lossd_server.http.browsers import BrowserGate
from lossd_server.http.calls import WorkerCalls
from lossd_server.http.gate import HttpGate
from lossd_server.http.losses import LossesOverHttp
from lossd_server.http.openapi import openapi
from lossd_server.http.pages import page_routes
from lossd_server.http.refused import NamedRequest, told_refusal
from lossd_server.http.status_report import StatusReport
from lossd_server.identity.callers import Callers
from lossd_server.inference.models import SHOWN_BYTES
from lossd_server.metrics.collector import MetricsCollector
from lossd_server.metrics.http_refusals import HttpRefusals
from lossd_server.processes.readiness import Readiness
from lossd_server.wire.status import shorten


@dataclass(frozen=True, slots=True)
class Guests:
    """Who may read more than health and pages: callers, None for everybody. hosts: names of this server; tls: whether
    a certificate proves those."""

    callers: Callers | None
    hosts: Collection[str]
    tls: bool


def application(
    collector: MetricsCollector,
    readiness: Readiness,
    report: StatusReport,
    calls: WorkerCalls,
    guests: Guests,
    refusals: HttpRefusals,
) -> ASGIApp:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    document = json.dumps(openapi()).encode()

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("the process lives\n")

    async def readyz(_: Request) -> Response:
        why_not = readiness.why_not()
        return PlainTextResponse(f"{why_not or 'ready'}\n", 503 if why_not else 200)

    async def status(_: Request) -> Response:
        return JSONResponse(report.read())

    async def description(_: Request) -> Response:
        return Response(document, media_type="application/json")

    async def no_route(request: Request, error: Exception) -> Response:
        """A path that is not there, or not with this method."""
        assert isinstance(error, HTTPException)
        shown = shorten(request.url.path, SHOWN_BYTES)
        unknown = NotFound(
            f"{request.method[:16]} {shown} is not served here; GET /openapi.json tells what is",
            reason="UNKNOWN_PATH",
            metadata={"path": shown},
        )
        answer = told_refusal(unknown, shown, NamedRequest(request), refusals)
        answer.status_code = error.status_code
        answer.headers.update(error.headers or {})
        return answer

    return Starlette(
        routes=[
            Route("/metrics", metrics),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/v1/status", status),
            Route("/openapi.json", description),
            Route("/v1/losses/{loss}", LossesOverHttp(calls, refusals).answer, methods=["POST"]),
            *page_routes(),
        ],
        middleware=[
            Middleware(BrowserGate, guests.hosts, guests.tls, refusals),
            Middleware(HttpGate, guests.callers, refusals),
        ],
        exception_handlers={HTTPException: no_route},
    )
