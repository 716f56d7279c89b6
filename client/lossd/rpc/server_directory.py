"""Server directory: the addresses of a Ray cluster's servers, asked for over HTTP (`ray://host:port`), and asked again.

`GET /` of Serve's proxy, or of an application's route, has `{"servers": ["10.0.0.7:41231"], "again_s": 5}`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from threading import Lock, Thread
from typing import NamedTuple

from lossd.errors import Error, Unavailable, shown_value
from lossd.rpc.address import RAY, checked_address
from lossd.rpc.json_text import read_json

TIMEOUT_S = 5.0
# Of an answer; some ten thousand servers.
MOST_BYTES = 1 << 20
# Bounds of what an answer may say, and how soon one that failed is asked again.
LEAST_AGAIN_S, MOST_AGAIN_S = 0.5, 300.0
AFTER_FAILURE_S = 0.5
# Clients that asked together do not ask together again.
JITTER = 0.2


class Listing(NamedTuple):
    """servers: checked addresses, sorted. again_s: seconds for which they are believed."""

    servers: tuple[str, ...]
    again_s: float


class Unlisted(tuple[str, ...]):
    """No servers, and why: what a failed question found."""

    def __init__(self, failure: Error) -> None:
        self.failure = failure

    def __new__(cls, _: Error) -> Unlisted:
        return super().__new__(cls, ())


class ServerDirectory:
    """What is known of a cluster's servers. Thread-safe.

    found: what was just asked; where that is None it is asked at once, which may block for TIMEOUT_S.
    """

    def __init__(
        self,
        address: str,
        found: Sequence[str] | None = None,
        ask: Callable[[str], Listing] | None = None,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._address = address
        self._ask = ask or asked
        self._clock = clock
        self._uniform = uniform
        self._lock = Lock()
        self._servers = tuple(found or ())
        self._failure = found.failure if isinstance(found, Unlisted) else None
        self._asking = False
        self._next_s = clock() + (LEAST_AGAIN_S if found else 0.0)
        if found is None:
            self.refresh()

    def servers(self) -> tuple[str, ...]:
        """Those that are known, at least one; asked again by a thread where that is due. Unavailable: none is known."""
        with self._lock:
            due = not self._asking and self._clock() >= self._next_s
            self._asking = self._asking or due
            servers, failure = self._servers, self._failure
        if due:
            Thread(target=self.refresh, name="lossd-directory", daemon=True).start()
        if servers:
            return servers
        raise failure or none_known(self._address, "it has not answered yet")

    def refresh(self) -> None:
        """Asks. What fails, or has no server in it, leaves what is known as it is."""
        failure: Error | None = None
        listing, again_s = None, AFTER_FAILURE_S
        try:
            listing = self._ask(self._address)
            if listing.servers:
                again_s = listing.again_s * self._uniform(1 - JITTER, 1 + JITTER)
            else:
                failure = none_known(self._address, "there is no server now")
        except Error as error:
            failure = error
        with self._lock:
            self._failure, self._asking = failure, False
            self._next_s = self._clock() + again_s
            if listing is not None and listing.servers:
                self._servers = listing.servers


def asked(address: str) -> Listing:
    """What the cluster says now. Unavailable where it does not, or says something else."""
    from http.client import HTTPException  # 20 ms that other addresses do not need
    from urllib.request import urlopen

    try:
        with urlopen(f"http://{address.removeprefix(RAY)}", timeout=TIMEOUT_S) as answer:
            body = answer.read(MOST_BYTES + 1)
    except (OSError, HTTPException) as error:
        raise none_known(address, str(getattr(error, "reason", "") or error)) from None
    return read_listing(address, body)


def read_listing(address: str, body: bytes) -> Listing:
    """Of an answer's body. Unavailable where it is none of lossd's."""
    try:
        if len(body) > MOST_BYTES:
            raise ValueError
        told = read_json(body)
        servers = tuple(sorted({_checked(one) for one in told["servers"]}))
        again_s = float(told["again_s"])
        if again_s != again_s:  # JSON has no NaN; Python's reader takes it
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise none_known(address, f"it answers {shown_value(body[:100])}, which is no list of servers") from None
    return Listing(servers, min(max(again_s, LEAST_AGAIN_S), MOST_AGAIN_S))


def none_known(address: str, why: str) -> Unavailable:
    where = "Is it Serve's HTTP port, with lossd's application at that route?"
    sentence = f"no server of {address} is known: {why}. {where}"
    return Unavailable(sentence, reason="NO_SERVER_LIST", metadata={"address": address})


def _checked(server: str) -> str:
    """InvalidArgument, a ValueError, where it is not that of one server."""
    found = checked_address(server)
    if "," in found or "/" in found or ":" not in found or found.startswith("unix:"):
        raise ValueError(found)
    return found
