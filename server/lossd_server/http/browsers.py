"""Browsers: which hosts and pages may ask. For a browser sends whatever page it shows, in its reader's name.

A page of another site may name this address by a name of its own (DNS rebinding), and then read what it answers: so
the name in Host must be one that only this server has. It may also send here what it cannot read: so a POST must come
from a page of ours, or from no page.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from lossd_server.errors import InvalidRequest, invalid
from lossd_server.http.gate import HEALTH_PATHS
from lossd_server.http.refused import NamedRequest, told_refusal
from lossd_server.metrics.http_refusals import HttpRefusals
from lossd_server.wire.status import shorten

SHOWN_BYTES = 64
SAFE = frozenset({"GET", "HEAD"})
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:/@\[\]]+)(?::[0-9]{1,5})?", re.ASCII)
OWN = frozenset({"same-origin", "none"})


class BrowserGate:
    """hosts: names beside addresses, localhost and names without a dot, none of which another site can have. tls: its
    certificate proves the name.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], tls: bool, refusals: HttpRefusals) -> None:
        self._app = app
        self._refusals = refusals
        self._hosts = frozenset(host.lower() for host in hosts)
        self._tls = tls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["path"] not in HEALTH_PATHS:
                self._look(scope["method"], Headers(scope=scope))
        except InvalidRequest as error:
            answer = told_refusal(error, scope["path"], NamedRequest(Request(scope)), self._refusals)
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _look(self, method: str, headers: Headers) -> None:
        given = headers.getlist("host")
        host = given[0] if len(given) == 1 else ""
        if not self._tls and not self._knows(host):
            shown = shorten(host, SHOWN_BYTES)
            raise invalid(
                f"this server is not called {shown!r}: use its address, or start it with --http-host NAME",
                "UNKNOWN_HOST",
                host=shown,
            )
        if method in SAFE:
            return
        origins = headers.getlist("origin")
        scheme = "https" if self._tls else "http"
        if any(origin.lower() != f"{scheme}://{host.lower()}" for origin in origins) or not all(
            site in OWN for site in headers.getlist("sec-fetch-site")
        ):
            shown = shorten(origins[0] if origins else "", SHOWN_BYTES)
            raise invalid(
                f"a page of another site ({shown or 'unnamed'}) may send nothing here", "FOREIGN_ORIGIN", origin=shown
            )

    def _knows(self, host: str) -> bool:
        name = host_name(host)
        return name != "" and (
            "." not in name or name in self._hosts or name.endswith(".localhost") or is_address(name)
        )


def host_name(host: str) -> str:
    """The name of a Host, without its port, in small letters; brackets of IPv6 stay. "" for what is none."""
    found = HOST.fullmatch(host.lower())
    return "" if found is None else found[1]


def is_address(name: str) -> bool:
    """Whether it is an IP address, and no name."""
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
