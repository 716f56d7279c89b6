"""Server settings: one frozen dataclass, each field of which is a flag and a LOSSD_… variable."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from math import isfinite
from typing import Any

from lossd.command_line.parser import CommandParser
from lossd_server.config.address import is_local

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")
_MOST_INT32, _MOST_INT64 = 2**31 - 1, 2**63 - 1
_COUNTED_BY_CORE = frozenset({"max_connections", "threads", "workers"})  # gRPC's core has C ints
_MAX_MESSAGE_BYTES = 2**31 - 2**20  # gRPC's limits are C ints, and its own is set a little higher than ours
_DESCRIPTION = "Serves losses and their gradients over gRPC."
_EPILOG = """\
Every option can also be set by a variable: LOSSD_DRAIN_S=5 is --drain-s 5. A
flag wins over its variable. SIZE is a number of bytes, with or without a unit:
16MiB, 1GB, 1000000.

exit status: 0 after SIGTERM or SIGINT; 1 if it could not serve; 2 wrong usage

examples:
  lossd serve
  lossd serve --listen unix:/run/lossd/socket --listen 127.0.0.1:50051
  lossd serve --workers 4 --log-format json
"""


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
    insecure: bool = _setting("network", False, "allow addresses that other machines can reach, without TLS")
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
        "computing", 1, "server processes on the same port; limits and threads are shared out among them"
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
            if not local and not self.insecure:
                raise SettingsError(
                    f"listen = {address!r} can be reached from other machines, and this server has no TLS:"
                    " listen on 127.0.0.1 or unix:path, or add --insecure to allow it"
                )

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the server."""
        return all(is_local(address) for address in self.listen)


def parse_settings(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """The settings of a command line: a flag wins over its variable, a variable over the default."""
    given = vars(_parser().parse_args(list(argv)))
    values: dict[str, Any] = {}
    for one in fields(Settings):
        variable = f"LOSSD_{one.name.upper()}"
        if one.name in given:
            values[one.name] = _value(one, given[one.name], _flag(one))
        elif variable in environ:
            text = environ[variable]
            values[one.name] = _value(one, text.split(",") if isinstance(one.default, tuple) else text, variable)
    return Settings(**values)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="lossd serve",
        usage="lossd serve [--listen ADDRESS] [options]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        argument_default=argparse.SUPPRESS,
    )
    groups: dict[str, argparse._ArgumentGroup] = {}
    for one in fields(Settings):
        name = one.metadata["group"]
        if name not in groups:
            groups[name] = parser.add_argument_group(name)
        group = groups[name]
        text = f"{one.metadata['help']} (default: {_shown(one)})"
        if isinstance(one.default, bool):
            group.add_argument(_flag(one), action="store_const", const="true", help=one.metadata["help"])
        else:
            action = "append" if isinstance(one.default, tuple) else "store"
            group.add_argument(_flag(one), action=action, metavar=_metavar(one), help=text)
    return parser


def _flag(one: Field[Any]) -> str:
    return "--" + one.name.replace("_", "-")


def _metavar(one: Field[Any]) -> str:
    """What a flag takes: its choices, or the kind of its value."""
    if one.metadata["choices"]:
        return "{" + ",".join(one.metadata["choices"]) + "}"
    if one.name.endswith("_bytes"):
        return "SIZE"
    if isinstance(one.default, int):
        return "N"
    return (
        "SECONDS" if one.name.endswith("_s") else "ADDRESS" if one.name == "listen" else one.name.split("_")[-1].upper()
    )


def _shown(one: Field[Any]) -> str:
    """A default as it could be typed, or in words."""
    default: Any = one.default
    if one.metadata["shown"]:
        return str(one.metadata["shown"])
    if isinstance(default, tuple):
        return ", ".join(default)
    if one.name.endswith("_bytes"):
        return f"{default >> 20}MiB"
    return f"{default:g}" if isinstance(default, float) else str(default)


def _value(one: Field[Any], given: Any, source: str) -> Any:
    """`given`, a string or a list of them, as the type of the field's default."""
    if isinstance(one.default, tuple):
        return tuple(text.strip() for text in given if text.strip())
    text = given.strip()
    if isinstance(one.default, bool):
        if text.lower() not in _TRUE + _FALSE:
            raise SettingsError(f"{source} = {given!r} must be true or false")
        return text.lower() in _TRUE
    if isinstance(one.default, str):
        return text
    if one.name.endswith("_bytes"):
        return _size(text, source)
    kind_of: type[int] | type[float] = type(one.default)  # type: ignore[assignment]
    try:
        return kind_of(text)
    except ValueError:
        kind = "a whole number" if isinstance(one.default, int) else "a number"
        raise SettingsError(f"{source} = {given!r} is not {kind}") from None


def _size(text: str, source: str) -> int:
    match = re.fullmatch(r"(\d+)\s*([a-z]*)", text.lower(), re.ASCII)
    if match is None or match[2] not in _UNITS:
        raise SettingsError(f"{source} = {text!r} is not a size; expected a number of bytes such as 16MiB or 1000000")
    return int(match[1]) * _UNITS[match[2]]
