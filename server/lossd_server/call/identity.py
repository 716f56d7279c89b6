"""Identity of a caller: who it is, what it may have at most, and with whom it shares."""

from __future__ import annotations

from collections.abc import Hashable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple

from lossd_server.call.contract import ServerCall


@dataclass(frozen=True, slots=True)
class Identity:
    """name: as the tokens' file or the certificate has it; the peer's host where nobody is asked.

    Bounds of 0: none of its own, beside the server's. Each is for all of its connections together.
    max_inflight_requests, max_streams: calls that have one answer, and streams. max_inflight_bytes: that they hold.
    verified: whether it has shown who it is.
    """

    name: str
    max_inflight_requests: int = 0
    max_inflight_bytes: int = 0
    max_streams: int = 0
    verified: bool = True


class Sharer(NamedTuple):
    """Who has a share of what there is: first each caller has one, then each of its connections one of that."""

    caller: Hashable = None
    connection: Hashable = None


def subject_of(certificate: object) -> str:
    """The common name of a verified certificate, as `getpeercert` gives it; "" where there is none."""
    fields = certificate.get("subject", ()) if isinstance(certificate, dict) else ()
    return next((value for field in fields for key, value in field if key == "commonName"), "")


# Of the call that runs, once it has been asked.
CALLER: ContextVar[Identity | None] = ContextVar("CALLER", default=None)


def peer_host(peer: str) -> str:
    """The host of a peer's address, whatever its port: what a caller is called that is not asked who it is."""
    return peer.rpartition(":")[0] or peer


def sharer_of(call: ServerCall) -> Sharer:
    """With whom the call that runs shares."""
    identity = CALLER.get()
    return Sharer(peer_host(call.peer) if identity is None else identity.name, call.connection)
