"""What a server can be told: one frozen dataclass, of which every field is a flag and a LOSSD_… variable."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from math import isfinite
from typing import Any

from lossd_server.config.address import is_local

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")
_MAX_MESSAGE_BYTES = 2**31 - 2**20  # gRPC's limits are C ints, and its own is set a little higher than ours


class SettingsError(ValueError):
    """A setting that cannot be used; the message is a sentence for whoever started the server."""


def _setting(default: Any, text: str, choices: tuple[str, ...] = ()) -> Any:
    return field(default=default, metadata={"help": text, "choices": choices})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Names ending in _bytes may be written with a unit (16MiB), those in _s are seconds."""

    listen: tuple[str, ...] = _setting(("127.0.0.1:50051",), "host:port or unix:path; repeatable; port 0 picks one")
    insecure: bool = _setting(False, "listen without TLS on addresses that other machines can reach")
    device: str = _setting("auto", "where losses are computed", ("auto", "cpu", "cuda"))
    threads: int = _setting(0, "compute threads of the CPU backend; 0: one for each core")
    workers: int = _setting(1, "processes that serve the same port; limits and threads are for all together")
    max_message_bytes: int = _setting(16 << 20, "size of one message in either direction")
    max_inflight_bytes: int = _setting(512 << 20, "bytes of requests held at once")
    max_inflight_requests: int = _setting(4096, "requests held at once")
    max_connections: int = _setting(4096, "connections held at once, each listening address")
    max_batch_bytes: int = _setting(64 << 20, "bytes that one batch reads and writes; a larger request goes alone")
    max_batch_rows: int = _setting(1 << 24, "rows, or elements of an elementwise loss, of one batch")
    max_shared_memory_bytes: int = _setting(0, "clients' shared memory in all; 0: a quarter of this machine's memory")
    shared_memory_socket: str = _setting(
        "auto",
        "path of the socket that shared memory is registered at; {worker}: a number; auto: a private folder; off",
    )
    shared_memory_mode: str = _setting("600", "who may register shared memory: the socket's mode, octal")
    shared_memory_group: str = _setting("", "the socket's group, by name or number; none: the process's")
    max_body_s: float = _setting(20.0, "time that a request's body may take to arrive")
    max_stream_idle_s: float = _setting(60.0, "time that a stream's open evaluations may wait for its client")
    max_deadline_s: float = _setting(300.0, "time after which a call is given up, whatever its own deadline")
    drain_s: float = _setting(30.0, "time that accepted calls have to finish after SIGTERM")
    reflection: str = _setting("auto", "the reflection service; auto: on local addresses only", ("auto", "on", "off"))
    log_level: str = _setting("info", "least level that is logged", ("debug", "info", "warning", "error"))
    log_format: str = _setting("text", "key=value lines, or JSON lines", ("text", "json"))

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            choices = one.metadata["choices"]
            if choices and value not in choices:
                raise SettingsError(f"{one.name} = {value!r} is none of {', '.join(choices)}")
            if isinstance(value, float) and not (isfinite(value) and value > 0):
                raise SettingsError(f"{one.name} = {value} is not a finite time above 0")
            if one.name.startswith("max_") and value <= 0 and not (value == 0 == one.default):
                raise SettingsError(f"{one.name} = {value} is not above 0")
        if self.threads < 0:
            raise SettingsError(f"threads = {self.threads} is negative")
        if self.workers < 1:
            raise SettingsError(f"workers = {self.workers} is not above 0")
        if self.max_message_bytes > _MAX_MESSAGE_BYTES:
            raise SettingsError(f"max_message_bytes = {self.max_message_bytes} is above gRPC's {_MAX_MESSAGE_BYTES}")
        if self.max_inflight_bytes // self.workers < self.max_message_bytes:
            share = f", shared by {self.workers} workers," if self.workers > 1 else ""
            raise SettingsError(
                f"max_inflight_bytes = {self.max_inflight_bytes}{share} is below"
                f" max_message_bytes = {self.max_message_bytes}: the largest message could never be taken"
            )
        if re.fullmatch(r"[0-7]{3}", self.shared_memory_mode) is None:
            raise SettingsError(f"shared_memory_mode = {self.shared_memory_mode!r} is no octal mode such as 660")
        if not self.shared_memory_socket:
            raise SettingsError("shared_memory_socket is empty: give a path, auto or off")
        if self.workers > 1 and not (
            self.shared_memory_socket in ("auto", "off") or "{worker}" in self.shared_memory_socket
        ):
            raise SettingsError(
                f"shared_memory_socket = {self.shared_memory_socket!r} belongs to one process, and workers ="
                f" {self.workers}: put {{worker}} into it, or leave it to auto"
            )
        if not self.listen:
            raise SettingsError("listen is empty: name at least one address")
        for address in self.listen:
            try:
                local = is_local(address)
            except ValueError as error:
                raise SettingsError(f"listen = {address!r}: {error}") from None
            if self.workers > 1 and address.startswith("unix:"):
                raise SettingsError(
                    f"listen = {address!r}: a Unix socket belongs to one process, and workers = {self.workers}:"
                    " give TCP addresses"
                )
            if not local and not self.insecure:
                raise SettingsError(
                    f"listen = {address!r} can be reached from other machines, and this server has no TLS:"
                    " add --insecure to allow it, or listen on 127.0.0.1 or unix:path"
                )

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the server."""
        return all(is_local(address) for address in self.listen)


def parse_settings(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """The settings of a command line: a flag goes before its variable, a variable before the default."""
    parser = argparse.ArgumentParser(
        prog="lossd serve",
        description="Serves losses over gRPC. Every flag can be given as a variable: --drain-s as LOSSD_DRAIN_S.",
        argument_default=argparse.SUPPRESS,
    )
    for one in fields(Settings):
        _add_flag(parser, one)
    given = vars(parser.parse_args(list(argv)))
    values: dict[str, Any] = {}
    for one in fields(Settings):
        variable = f"LOSSD_{one.name.upper()}"
        if one.name in given:
            values[one.name] = _value(one, given[one.name], "--" + one.name.replace("_", "-"))
        elif variable in environ:
            text = environ[variable]
            values[one.name] = _value(one, text.split(",") if isinstance(one.default, tuple) else text, variable)
    return Settings(**values)


def _add_flag(parser: argparse.ArgumentParser, one: Field[Any]) -> None:
    flag = "--" + one.name.replace("_", "-")
    default = ", ".join(one.default) if isinstance(one.default, tuple) else one.default
    text = f"{one.metadata['help']} (default: {default})"
    if isinstance(one.default, bool):
        parser.add_argument(flag, action="store_const", const="true", help=text)
    elif isinstance(one.default, tuple):
        parser.add_argument(flag, action="append", metavar="ADDRESS", help=text)
    else:
        parser.add_argument(flag, metavar="|".join(one.metadata["choices"]) or one.name.rpartition("_")[2], help=text)


def _value(one: Field[Any], given: Any, source: str) -> Any:
    """`given`, a string or a list of them, as the type of the field's default."""
    if isinstance(one.default, tuple):
        return tuple(text.strip() for text in given if text.strip())
    text = given.strip()
    if isinstance(one.default, bool):
        if text.lower() not in _TRUE + _FALSE:
            raise SettingsError(f"{source} = {given!r} is neither true nor false")
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
        raise SettingsError(f"{source} = {text!r} is not a size such as 16MiB or 1000000")
    return int(match[1]) * _UNITS[match[2]]
