"""Flags of `lossd serve`: the settings, from a command line and the environment."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import Field, fields
from typing import Any

from lossd.command_line.parser import CommandParser
from lossd_server.config.settings import Settings, SettingsError
from lossd_server.config.sizes import number_of_bytes

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")
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
        "SECONDS"
        if one.name.endswith("_s")
        else "ADDRESS"
        if one.name in ("listen", "http")
        else one.name.split("_")[-1].upper()
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
        try:
            return number_of_bytes(text)
        except ValueError as error:
            raise SettingsError(f"{source} = {text!r} {error}") from None
    kind_of: type[int] | type[float] = type(one.default)  # type: ignore[assignment]
    try:
        return kind_of(text)
    except ValueError:
        kind = "a whole number" if isinstance(one.default, int) else "a number"
        raise SettingsError(f"{source} = {given!r} is not {kind}") from None
