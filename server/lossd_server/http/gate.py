"""Gate of the HTTP port: asks who calls, before a path is looked at. Only health and the pages answer strangers.

A page is the same on every server and tells nothing; what it asks for is not open.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from lossd_server.errors import Unauthenticated
from lossd_server.http.pages import FILES
from lossd_server.http.protocol import SUBJECT
from lossd_server.http.refused import NamedRequest, told_refusal
from lossd_server.identity.callers import AUTHORIZATION, Callers
from lossd_server.metrics.http_refusals import HttpRefusals

HEALTH_PATHS = frozenset({"/healthz", "/readyz"})
OPEN_PATHS = HEALTH_PATHS | frozenset(FILES)


class HttpGate:
    """callers: None where everybody may call."""

    def __init__(self, app: ASGIApp, callers: Callers | None, refusals: HttpRefusals) -> None:
        self._app = app
        self._callers = callers
        self._refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        callers = self._callers
        if callers is not None and scope["path"] not in OPEN_PATHS:
            callers.look()
            given = [(AUTHORIZATION, value) for value in Headers(scope=scope).getlist(AUTHORIZATION)]
            try:
                callers.identify(given, scope["state"][SUBJECT])
            except Unauthenticated as error:
                answer = told_refusal(error, scope["path"], NamedRequest(Request(scope)), self._refusals)
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)
