"""Channel target: where a server is, and how a channel to it is set up. Every channel argument lies here.

Core ignores unknown arguments, misspelt ones and numbers given as strings in silence: a test holds the names.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import numpy as np

from lossd.errors import InvalidArgument, shown_value
from lossd.rpc.address import EMBEDDED, checked_address
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
# The bounds of one attempt to connect, between a loaded server's time for it and core's own default.
ATTEMPT_LEAST_MS = 1_000
ATTEMPT_MOST_MS = 20_000


@dataclass(frozen=True, slots=True)
class Target:
    """An address as gRPC takes it. local: on this host for certain, so that no proxy may come between."""

    address: str
    local: bool
    connect_timeout_s: float = CONNECT_TIMEOUT_S
    credentials: Credentials = PLAIN

    @property
    def round_robin(self) -> bool:
        """Whether calls go to several servers in turn."""
        return self.address.startswith("dns:")

    @property
    def may_be_several(self) -> bool:
        """Whether several processes may serve it, of which each connection reaches one."""
        return not self.address.startswith(("dns:", "unix:"))

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
        if self.round_robin:
            arguments.append(("grpc.lb_policy_name", "round_robin"))
        return arguments

    def open_channel(self, library: Any, max_response_bytes: int) -> Any:
        """library: grpc, or grpc.aio. InvalidArgument where a file of the credentials cannot be read."""
        secure = self.credentials.channel_credentials()
        options = self.arguments(max_response_bytes)
        if secure is None:
            return library.insecure_channel(self.address, options=options)
        return library.secure_channel(self.address, secure, options=options)


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


def target(address: str, connect_timeout_s: float = CONNECT_TIMEOUT_S, credentials: Credentials = PLAIN) -> Target:
    """Of a checked address; InvalidArgument for any other. connect_timeout_s, credentials: the client's."""
    address = checked_address(address)
    return Target(address, on_this_host(address), connect_timeout_s, credentials)


def on_this_host(address: str) -> bool:
    """Whether a checked address is on this host for certain."""
    return address == EMBEDDED or address.startswith("unix:") or _is_loopback(address)


def _is_loopback(address: str) -> bool:
    host = address.removeprefix("dns:///").rpartition(":")[0]
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
