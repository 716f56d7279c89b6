"""Channel target: where a server is, and how a channel to it is set up. Every channel argument lies here.

Core ignores unknown arguments, misspelt ones and numbers given as strings in silence: a test holds the names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any

import grpc
import numpy as np

from lossd.errors import InvalidArgument, shown_value
from lossd.rpc.address import EMBEDDED, RAY, checked_address
from lossd.rpc.address_list import by_host, looked_up, target_of
from lossd.rpc.credentials import PLAIN, Credentials

Argument = tuple[str, int | str]

# The largest that a channel argument, a C int, can say. The server's own limit is the one that counts.
UNLIMITED_BYTES = 2**31 - 1
# A pair with the server's, whose least accepted interval must not be longer, or it answers GOAWAY too_many_pings.
KEEPALIVE_MS = 60_000
KEEPALIVE_TIMEOUT_MS = 20_000
# How fast a lost connection is tried again. Core's own end of 120 s would outlive every deadline.
RECONNECT_FIRST_MS = 100
RECONNECT_LONGEST_MS = 2_000
# Seconds for the first answer of a server that a client has never heard of. Starting one takes less.
CONNECT_TIMEOUT_S = 5.0
# Calls go to each server by what its answers tell of its load, and in turn where the library cannot do that. A report
# counts a second after a connection is made (gRPC: ten), and for ten seconds.
BALANCING = (
    '{"loadBalancingConfig": [{"weighted_round_robin": {"enableOobLoadReport": false, "blackoutPeriod": "1s",'
    ' "weightUpdatePeriod": "0.5s", "weightExpirationPeriod": "10s"}}, {"round_robin": {}}]}'
)
# Servers behind a name that are asked how many processes they have.
OF_A_NAME = 4
# The bounds of one attempt to connect, between a loaded server's time for it and core's own default.
ATTEMPT_LEAST_MS = 1_000
ATTEMPT_MOST_MS = 20_000


@dataclass(frozen=True, slots=True)
class Target:
    """An address as gRPC takes it. local: on this host for certain, so that no proxy may come between.

    found: addresses of the names in a list; those that are not in there are looked up.
    """

    address: str
    local: bool
    connect_timeout_s: float = CONNECT_TIMEOUT_S
    credentials: Credentials = PLAIN
    found: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def balanced(self) -> bool:
        """Whether calls go to several servers, each to another."""
        return is_balanced(self.address)

    @property
    def follows(self) -> bool:
        """Whether its servers are those that a Ray cluster tells, which change."""
        return self.address.startswith(RAY)

    def of(self, servers: Sequence[str]) -> Target:
        """The same client's, of the servers that there are now."""
        address = ",".join(servers)
        return replace(self, address=address, local=on_this_host(address), found={})

    @property
    def servers(self) -> int:
        """How many are asked what each may have different; of a name so many as may tell."""
        return OF_A_NAME if self.address.startswith(("dns:", RAY)) else 1 + self.address.count(",")

    @property
    def may_be_several(self) -> bool:
        """Whether several processes may serve it, of which each connection reaches one; one of each server."""
        return not self.address.startswith("unix:")

    @property
    def _attempt_ms(self) -> int:
        return int(min(max(800 * self.connect_timeout_s, ATTEMPT_LEAST_MS), ATTEMPT_MOST_MS))

    def arguments(self, max_response_bytes: int) -> list[Argument]:
        arguments: list[Argument] = [
            # Requests are measured against the server's limit before they are sent.
            ("grpc.max_send_message_length", UNLIMITED_BYTES),
            ("grpc.max_receive_message_length", max_response_bytes),
            # Core repeats only what fits 256 KiB: we repeat ourselves.
            ("grpc.enable_retries", 0),
            # Compressed messages come in 1 KiB slices, and the server refuses them.
            ("grpc.compression_enabled_algorithms_bitset", 1),
            # With the global pool, a fresh channel in a forked child would get its parent's connection.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.keepalive_time_ms", KEEPALIVE_MS),
            ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
            ("grpc.initial_reconnect_backoff_ms", RECONNECT_FIRST_MS),
            ("grpc.max_reconnect_backoff_ms", RECONNECT_LONGEST_MS),
            # How long core tries to connect, in spite of its name. It ends first, since it knows what is the matter.
            ("grpc.min_reconnect_backoff_ms", self._attempt_ms),
        ]
        if self.local:
            arguments.append(("grpc.enable_http_proxy", 0))
        if self.balanced:
            arguments.append(("grpc.service_config", BALANCING))
        return arguments

    def open_channels(self, library: Any, max_response_bytes: int) -> list[Any]:
        """One; for hosts of a list whose certificates have different names, one for each name, which gRPC checks for
        the whole of a channel. library: grpc, or grpc.aio.

        InvalidArgument where a file of the credentials cannot be read.
        """
        secure, options = self.credentials.channel_credentials(), self.arguments(max_response_bytes)
        addresses = self.address.split(",")
        if len(addresses) == 1:
            return [_opened(library, self.address, secure, options)]
        if secure is None:
            return [_opened(library, self._numbers(addresses), None, options)]
        return [
            _opened(library, self._numbers(some), secure, [*options, ("grpc.ssl_target_name_override", host)])
            for host, some in by_host(addresses).items()
        ]

    def _numbers(self, addresses: list[str]) -> str:
        return target_of(addresses, lambda host: self.found[host] if host in self.found else looked_up(host))


def _opened(library: Any, where: str, secure: grpc.ChannelCredentials | None, options: list[Argument]) -> Any:
    if secure is None:
        return library.insecure_channel(where, options=options)
    return library.secure_channel(where, secure, options=options)


def checked_bytes(max_response_bytes: object) -> int:
    """max_response_bytes as gRPC takes it, or InvalidArgument."""
    given: Any = max_response_bytes
    if isinstance(given, int | np.integer) and not isinstance(given, bool) and 0 < given <= UNLIMITED_BYTES:
        return int(given)
    shown = shown_value(given)
    raise InvalidArgument(
        f"max_response_bytes must be a whole number from 1 to {UNLIMITED_BYTES}, not {shown}",
        field="max_response_bytes",
        reason="OPTION_OUT_OF_RANGE",
        metadata={"value": shown},
    )


def target(
    address: str,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
    credentials: Credentials = PLAIN,
    found: Mapping[str, Sequence[str]] | None = None,
) -> Target:
    """Of a checked address; InvalidArgument for any other. connect_timeout_s, credentials: the client's."""
    address = checked_address(address)
    return Target(address, on_this_host(address), connect_timeout_s, credentials, found or {})


def is_balanced(address: str) -> bool:
    """Whether a checked address may be that of several servers."""
    return address.startswith(("dns:", RAY)) or "," in address


def on_this_host(address: str) -> bool:
    """Whether a checked address is on this host for certain, all of it."""
    if address.startswith(RAY):  # the cluster's nodes need not be
        return False
    return address == EMBEDDED or address.startswith("unix:") or all(map(_is_loopback, address.split(",")))


def _is_loopback(address: str) -> bool:
    host = address.removeprefix("dns:///").rpartition(":")[0]
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
