"""Channel target: where a server is, and how a channel to it is set up. Every channel argument lies here.

Core ignores unknown arguments, misspelt ones and numbers given as strings in silence: a test holds the names.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from lossd.errors import InvalidArgument

Argument = tuple[str, int | str]

EMBEDDED = "embedded"
# The largest that a channel argument, a C int, can say. The server's own limit is the one that counts.
UNLIMITED_BYTES = 2**31 - 1
# A pair with the server's, whose least accepted interval must not be longer, or it answers GOAWAY too_many_pings.
KEEPALIVE_MS = 60_000
KEEPALIVE_TIMEOUT_MS = 20_000
# How fast a lost connection is tried again. Core's own end of 120 s would outlive every deadline.
RECONNECT_FIRST_MS = 100
RECONNECT_LONGEST_MS = 2_000


@dataclass(frozen=True, slots=True)
class Target:
    """An address as gRPC takes it. local: on this host for certain, so that no proxy may come between."""

    address: str
    local: bool

    @property
    def round_robin(self) -> bool:
        """Whether calls go to several servers in turn."""
        return self.address.startswith("dns:")

    @property
    def may_be_several(self) -> bool:
        """Whether several processes may serve it, of which each connection reaches one."""
        return not self.address.startswith(("dns:", "unix:"))

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
        ]
        if self.local:
            arguments.append(("grpc.enable_http_proxy", 0))
        if self.round_robin:
            arguments.append(("grpc.lb_policy_name", "round_robin"))
        return arguments


def target(address: str) -> Target:
    """`host:port`, `dns:///name:port`, `unix:path`; an IPv6 host in brackets. InvalidArgument for anything else."""
    if address.startswith("unix:"):
        if not address.removeprefix("unix:").lstrip("/"):
            raise _refused(address, "names no path")
        return Target(address, local=True)
    if "://" in address and not address.startswith("dns:///"):
        raise _refused(address, "has a scheme other than dns:/// or unix:; give host:port")
    host, colon, port = address.removeprefix("dns:///").rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        raise _refused(address, "has no port: give host:port, for example 127.0.0.1:50051")
    return Target(address, local=_is_loopback(host))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _refused(address: object, what: str) -> InvalidArgument:
    sentence = f"address = {address!r} {what}"
    return InvalidArgument(sentence, field="address", reason="MALFORMED_ADDRESS", metadata={"value": str(address)})
