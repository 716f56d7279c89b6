"""Server settings: one frozen dataclass, each field of which is a flag and a LOSSD_… variable."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from math import isfinite
from typing import Any

from lossd_server.config.address import is_local, split

_MOST_INT32, _MOST_INT64 = 2**31 - 1, 2**63 - 1
_COUNTED_BY_CORE = frozenset({"max_connections", "threads", "workers"})  # gRPC's core has C ints
_MAX_MESSAGE_BYTES = 2**31 - 2**20  # gRPC's limits are C ints, and its own is set a little higher than ours

FRONTS = ("http2", "grpcio")


class SettingsError(ValueError):
    """A setting that cannot be used; the message is a sentence for whoever started the server."""


def _setting(group: str, default: Any, text: str, choices: tuple[str, ...] = (), shown: str = "") -> Any:
    """group: heading in --help. text: what it is, with its unit. shown: the default in words."""
    return field(default=default, metadata={"group": group, "help": text, "choices": choices, "shown": shown})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Names ending in _bytes may be written with a unit (16MiB), those in _s are seconds."""

    listen: tuple[str, ...] = _setting(
        "network",
        ("127.0.0.1:50051",),
        "address to listen on, host:port or unix:path; repeatable; port 0: any free one",
    )
    http: str = _setting(
        "network",
        "",
        "address of pages, losses in JSON, metrics and health over HTTP, [host:]port, 127.0.0.1 without a host",
        shown="no such port",
    )
    http_host: tuple[str, ...] = _setting(
        "network",
        (),
        "a name by which browsers and others may call that port without TLS; repeatable",
        shown="addresses, localhost and names without a dot",
    )
    insecure: bool = _setting("network", False, "allow addresses that other machines can reach, without TLS")
    tls_cert: str = _setting(
        "identity",
        "",
        "file of the server's certificate and its chain, PEM; read again when it changes",
        shown="no TLS",
    )
    tls_key: str = _setting("identity", "", "file of the certificate's key, PEM, without a password", shown="none")
    tls_client_ca: str = _setting(
        "identity",
        "",
        "file of the authorities that sign clients' certificates, PEM: each client needs one then",
        shown="none",
    )
    tokens: str = _setting(
        "identity",
        "",
        "file of who may call, `name: sha256:HASH` or `name: certificate` and limits; `lossd token` writes its lines",
        shown="everybody may",
    )
    max_connections: int = _setting("network", 4096, "open connections for each address")
    max_connection_idle_s: float = _setting(
        "network", 900.0, "seconds after which a connection without a call is closed"
    )
    max_connection_age_s: float = _setting(
        "network",
        0.0,
        "seconds after which a connection takes no further calls, give or take a tenth; those under way go on",
        shown="any age",
    )
    front: str = _setting(
        "network", "http2", "what turns connections into calls: lossd's HTTP/2, or gRPC's own library", FRONTS
    )
    reflection: str = _setting(
        "network", "auto", "gRPC's reflection service; auto: only on local addresses", ("auto", "on", "off")
    )
    device: str = _setting(
        "computing", "auto", "where losses are computed; auto: a GPU if there is one", ("auto", "cpu", "cuda")
    )
    threads: int = _setting("computing", 0, "compute threads on a CPU", shown="one for each core")
    workers: int = _setting(
        "computing",
        1,
        "server processes on the same port, with a GPU each if there are any; limits and threads are shared out among "
        "them",
    )
    max_batch_bytes: int = _setting(
        "computing", 64 << 20, "bytes that a batch reads and writes; a larger request is computed alone"
    )
    max_batch_rows: int = _setting("computing", 1 << 24, "rows of a batch; elements for elementwise losses")
    max_message_bytes: int = _setting("limits", 16 << 20, "size of a message in either direction")
    max_inflight_bytes: int = _setting(
        "limits", 512 << 20, "bytes of requests in progress; beyond it, calls are told to retry later"
    )
    max_inflight_requests: int = _setting("limits", 4096, "the same limit as a number of requests")
    max_caller_requests: int = _setting(
        "limits",
        0,
        "calls in progress of one caller, on all of its connections: an identity where callers are asked, else a host",
        shown="as many as there is room for",
    )
    max_caller_bytes: int = _setting(
        "limits", 0, "bytes of one caller's requests in progress", shown="as many as there is room for"
    )
    max_caller_streams: int = _setting(
        "limits", 0, "streams of one caller", shown="three quarters of what others leave"
    )
    max_admission_wait_s: float = _setting(
        "limits",
        1.0,
        "seconds that a request waits for room before it is told to retry later; not on --front grpcio, which cannot "
        "hold it back",
    )
    max_body_s: float = _setting("limits", 20.0, "seconds for a request's body to arrive")
    max_stream_idle_s: float = _setting(
        "limits", 60.0, "seconds that a stream's open evaluations wait for their client to send or to read"
    )
    max_deadline_s: float = _setting(
        "limits", 300.0, "seconds until a call is ended, even if its own deadline is later"
    )
    max_shared_memory_bytes: int = _setting(
        "shared memory", 0, "shared memory of all clients together", shown="a quarter of this machine's memory"
    )
    shared_memory_socket: str = _setting(
        "shared memory",
        "auto",
        "path of the socket where clients register memory, {worker} standing for a worker's number; auto: a private "
        "folder; off: no shared memory",
    )
    shared_memory_mode: str = _setting("shared memory", "600", "permissions of a socket given by path, in octal")
    shared_memory_group: str = _setting(
        "shared memory", "", "group of a socket given by path, by name or number", shown="the process's"
    )
    drain_s: float = _setting("shutdown", 30.0, "seconds for accepted calls to finish after SIGTERM")
    log_level: str = _setting(
        "logs",
        "info",
        "least severe level to log; debug: only of the server itself",
        ("debug", "info", "warning", "error"),
    )
    log_format: str = _setting("logs", "text", "lines of key=value, or of JSON", ("text", "json"))
    access_log: str = _setting(
        "logs", "off", "an event for each call: none, of calls that fail, or of all", ("off", "refused", "all")
    )
    traces: str = _setting(
        "logs",
        "off",
        "OpenTelemetry spans of calls: sent by OTLP, as the OTEL_… variables say, or given to the process's own tracer "
        "provider",
        ("off", "otlp", "process"),
    )

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            choices = one.metadata["choices"]
            if choices and value not in choices:
                raise SettingsError(f"{one.name} must be one of {', '.join(choices)}, not {value!r}")
            if isinstance(value, float) and not (isfinite(value) and (value > 0 or value == 0 == one.default)):
                raise SettingsError(f"{one.name} = {value} must be a finite number of seconds above 0")
            if one.name.startswith("max_") and value <= 0 and not (value == 0 == one.default):
                raise SettingsError(f"{one.name} = {value} must be above 0")
            if isinstance(value, int) and value > (_MOST_INT32 if one.name in _COUNTED_BY_CORE else _MOST_INT64):
                raise SettingsError(f"{one.name} = {value} is too large: no such number can be sent")
        if bool(self.tls_cert) != bool(self.tls_key):
            raise SettingsError("tls_cert and tls_key go together: give both, or neither")
        if self.tls_client_ca and not self.tls_cert:
            raise SettingsError("tls_client_ca needs tls_cert and tls_key: without TLS no client shows a certificate")
        if self.threads < 0:
            raise SettingsError(f"threads = {self.threads} must not be negative")
        if self.workers < 1:
            raise SettingsError(f"workers = {self.workers} must be above 0")
        if self.max_message_bytes > _MAX_MESSAGE_BYTES:
            raise SettingsError(
                f"max_message_bytes = {self.max_message_bytes} exceeds gRPC's limit of {_MAX_MESSAGE_BYTES}"
            )
        if self.max_inflight_bytes // self.workers < self.max_message_bytes:
            share = f", shared by {self.workers} workers," if self.workers > 1 else ""
            raise SettingsError(
                f"max_inflight_bytes = {self.max_inflight_bytes}{share} is below"
                f" max_message_bytes = {self.max_message_bytes}: the largest message could never be accepted"
            )
        if re.fullmatch(r"[0-7]{3}", self.shared_memory_mode) is None:
            raise SettingsError(
                f"shared_memory_mode = {self.shared_memory_mode!r} must be three octal digits, such as 660"
            )
        if not self.shared_memory_socket:
            raise SettingsError("shared_memory_socket is empty; expected a path, auto or off")
        if self.workers > 1 and not (
            self.shared_memory_socket in ("auto", "off") or "{worker}" in self.shared_memory_socket
        ):
            raise SettingsError(
                f"shared_memory_socket = {self.shared_memory_socket!r} is one path for workers = {self.workers}:"
                " each needs its own; put {worker} into the path, or use auto"
            )
        if not self.listen:
            raise SettingsError("listen is empty; give at least one address")
        for address in self.listen:
            try:
                local = is_local(address)
            except ValueError as error:
                raise SettingsError(f"listen = {address!r}: {error}") from None
            if self.workers > 1 and address.startswith("unix:"):
                raise SettingsError(
                    f"listen = {address!r}: workers = {self.workers} cannot share a Unix socket; give TCP addresses"
                )
            if not local and not self.insecure and not self.tls_cert:
                raise SettingsError(
                    f"listen = {address!r} can be reached from other machines, and this server has no TLS: give"
                    " --tls-cert and --tls-key, listen on 127.0.0.1 or unix:path, or add --insecure to allow it"
                )
            if address.startswith("unix:") and self.tls_client_ca and not self.tokens:
                raise SettingsError(
                    f"listen = {address!r}: nobody could call there, since a Unix socket has no certificates and"
                    " tls_client_ca demands them; give --tokens, too"
                )

        if self.http:
            self._check_http()

    def _check_http(self) -> None:
        address = self.http_address
        try:
            split(address)
            local = is_local(address)
        except ValueError as error:
            raise SettingsError(f"http = {self.http!r}: {error}") from None
        if not local and not self.insecure and not self.tls_cert:
            raise SettingsError(
                f"http = {self.http!r} can be reached from other machines, and this server has no TLS: give --tls-cert"
                " and --tls-key, a port alone, or add --insecure to allow it"
            )

    @property
    def http_address(self) -> str:
        """host:port of the HTTP port: loopback, where a port alone is given."""
        port = self.http.removeprefix(":")
        return f"127.0.0.1:{port}" if port.isdecimal() else self.http

    def limits(self) -> dict[str, int | float]:
        """All that bounds what callers may have: settings whose names begin with max_, and the time to drain. What is 0
        is no limit."""
        found = {one.name: getattr(self, one.name) for one in fields(self) if one.name.startswith("max_")}
        return {**{name: value for name, value in found.items() if value}, "drain_s": self.drain_s}

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the server."""
        return all(is_local(address) for address in self.listen)
