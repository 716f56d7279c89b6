"""The asynchronous client's lifecycle: its options, its connections, its end, and what of it is pickled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

from lossd.concurrency.tasks import PerOwner, run_blocking
from lossd.connection.aio_connection import Connection
from lossd.connection.aio_pool import ConnectionPool
from lossd.embedded import Embedded
from lossd.handles import enrol
from lossd.routing.choose_transport import SMALL_BYTES
from lossd.rpc import protocol
from lossd.rpc.address import EMBEDDED, UNSET, Unset, chosen
from lossd.rpc.address_list import all_looked_up, names_in
from lossd.rpc.credentials import Credentials, StrPath, credentials
from lossd.rpc.description import describe_client
from lossd.rpc.retry import Retry, deadline_s
from lossd.rpc.target import CONNECT_TIMEOUT_S, UNLIMITED_BYTES, checked_bytes, is_balanced, on_this_host, target

# Of a pickle: address, timeout, connect_timeout, max_response_bytes, credentials, retry, closed.
State = tuple[str, float, float, int, Credentials, bool, bool]


class Lifecycle:
    """What a client is before and after its calls. Its pickle, and so its copy, is its address and options.

    The copy opens connections of its own; of an embedded server it starts its own, in the process that it is made in.
    The copy of a closed client is closed.
    """

    def __init__(
        self,
        address: str | Unset = UNSET,
        *,
        timeout: float = 60.0,
        connect_timeout: float = CONNECT_TIMEOUT_S,
        max_response_bytes: int = UNLIMITED_BYTES,
        retry: bool = True,
        tls: bool | None = None,
        ca: StrPath | None = None,
        cert: StrPath | None = None,
        key: StrPath | None = None,
        token: str | None = None,
        token_file: StrPath | None = None,
    ) -> None:
        timeout_s, connect_timeout_s = deadline_s(timeout), deadline_s(connect_timeout, "connect_timeout")
        most, where = checked_bytes(max_response_bytes), chosen(address)
        shown = credentials(
            where, on_this_host(where), tls=tls, ca=ca, cert=cert, key=key, token=token, token_file=token_file
        )
        self.__setstate__((where, timeout_s, connect_timeout_s, most, shown, retry, False))

    def __getstate__(self) -> State:
        lifetime = self._lifetime
        times = self._timeout_s, lifetime.connect_timeout_s
        ends = lifetime.repeats, lifetime.closed
        return self._address, *times, self._max_response_bytes, self._credentials, *ends

    def __setstate__(self, state: State) -> None:
        self._address, self._timeout_s, connect_timeout_s = state[:3]
        self._max_response_bytes, self._credentials, repeats, closed = state[3:]
        self._small_bytes = min(SMALL_BYTES, self._max_response_bytes)
        embeds = self._address == EMBEDDED
        several = is_balanced(self._address)
        self._lifetime = protocol.Lifetime(
            connect_timeout_s, embedded=embeds, closed=closed, several=several, repeats=repeats
        )
        self._connections = PerOwner[ConnectionPool]()
        self._names = names_in(self._address)
        self._found: Mapping[str, Sequence[str]] = {}
        let_go = partial(_let_go, self._lifetime, self._connections)
        self._embedded = Embedded(self, let_go) if embeds and not closed else None
        self._handle = enrol(self)

    def __repr__(self) -> str:
        return describe_client(
            "lossd.aio.Client", self._address, closed=self._lifetime.closed, opened=bool(self._connections)
        )

    async def close(self) -> None:
        """Ends the connection; calls that are under way raise Unavailable. A second time does nothing."""
        self._lifetime.closed = True
        await self._connections.close()
        if self._embedded is not None:
            await run_blocking(self._embedded.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _retry(self, timeout: float | None, **how: Any) -> Retry:
        return Retry(self._timeout_s if timeout is None else deadline_s(timeout), self._lifetime, **how)

    async def _look_up(self) -> None:
        """What the names of a list stand for, before connections are opened: asking may take its time."""
        if self._connections.get() is None:
            self._found = await run_blocking(all_looked_up, self._names)

    def _connection(self) -> Connection:
        """The least busy."""
        return self._opened().least_busy

    def _opened(self) -> ConnectionPool:
        """Its connections; the first call opens them."""
        connections = self._connections.get()
        if connections is None:
            if self._lifetime.is_over:
                raise protocol.ended_error(self._lifetime)
            address = self._embedded.address if self._embedded else self._address
            most, lifetime = self._max_response_bytes, self._lifetime
            server = target(address, lifetime.connect_timeout_s, self._credentials, self._found)
            connections = self._connections.open(
                lambda: ConnectionPool(
                    lambda: Connection(server, most, lifetime), server.may_be_several, server.servers
                )
            )
        return connections


def _let_go(lifetime: protocol.Lifetime, connections: PerOwner[ConnectionPool]) -> None:
    """Before an embedded server ends: core would log that it went away."""
    lifetime.ended = True
    connections.abandon(ended=False)
