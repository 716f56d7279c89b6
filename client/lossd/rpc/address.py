"""Server address: the forms that a client takes, and what is the matter with any other text."""

from __future__ import annotations

import os
import re
import socket
import sys
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from lossd.errors import InvalidArgument, shown_value

EMBEDDED = "embedded"
# What a client without an address asks: the server named here, or the one that `lossd serve` starts by itself.
ENVIRONMENT = "LOSSD_SERVER"
DEFAULT_PORT = 50051
DEFAULT_SERVER = f"127.0.0.1:{DEFAULT_PORT}"
# Of a Ray cluster: where Serve's HTTP proxy tells which servers there are.
RAY = "ray://"
RAY_PORT = 8000
FORMS = (
    f"host:port, host (port {DEFAULT_PORT}), [IPv6]:port, several of these with commas between, dns:///name:port, "
    'ray://host:port, unix:path or "embedded"'
)
# Bytes that the system has for a socket's path, without the zero at its end.
LONGEST_PATH = 107 if sys.platform == "linux" else 103

_LABEL = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*\.?")
_BRACKETS = re.compile(r"\[([^\[\]]*)\](?::(.*))?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Unset(Enum):
    """The address of a client that was given none. None is refused: it is most likely a variable that was not set."""

    UNSET = f"{ENVIRONMENT}, or {DEFAULT_SERVER}"

    def __repr__(self) -> str:
        return self.value


UNSET = Unset.UNSET


class Problem(NamedTuple):
    """What an address has or is. guesses: what may have been meant."""

    what: str
    guesses: tuple[str, ...] = ()


def chosen(address: object) -> str:
    """The address to use, EMBEDDED or as gRPC takes it. InvalidArgument for anything else."""
    if address is not UNSET:
        return checked_address(address)
    # As with an option: what is set to nothing is not set.
    return checked_address(os.environ.get(ENVIRONMENT) or DEFAULT_SERVER, ENVIRONMENT)


def checked_address(address: object, name: str = "address") -> str:
    """As `chosen`. name: where it comes from."""
    if not isinstance(address, str):
        raise _refused(name, address, Problem("is not text", _texts(address)))
    if address == EMBEDDED:
        return address
    found = _read(address)
    if isinstance(found, Problem):
        raise _refused(name, address, found)
    return found


def _texts(address: object) -> tuple[str, ...]:
    if isinstance(address, bytes):
        return (address.decode(errors="replace"),)
    return (f"unix:{os.fspath(address)}",) if isinstance(address, os.PathLike) else ()


def _read(text: str) -> str | Problem:
    if text.startswith("unix:"):
        return _unix(text.removeprefix("unix:"))
    if any(one.isspace() for one in text) or _CONTROL.search(text):
        return Problem("has blanks in it" if text.strip() else "is blank")
    if not text:
        return Problem("is empty")
    if text.lower() == EMBEDDED:
        return Problem("has capital letters", (EMBEDDED,))
    if text.startswith("dns:///"):
        found = _host_and_port(text.removeprefix("dns:///"))
        if isinstance(found, str):
            return f"dns:///{found}"
        return Problem(found.what, tuple(f"dns:///{guess}" for guess in found.guesses))
    if text.startswith(RAY):
        return _ray(text.removeprefix(RAY))
    if "://" in text:
        scheme, _, rest = text.partition("://")
        guess = f"dns:///{rest.rpartition('/')[2]}" if scheme == "dns" else rest.partition("/")[0]
        return Problem(f"begins with {scheme}://, which is none of dns:///, ray:// and unix:", (guess,))
    if "," in text:
        return _list(text.split(","))
    if "/" in text and ":" not in text:
        return Problem("is a path", (f"unix:{text}",))
    return _host_and_port(text)


def _ray(text: str) -> str | Problem:
    """Of a cluster, and perhaps the route of an application."""
    where, _, route = text.partition("/")
    found = _host_and_port(where, RAY_PORT)
    if isinstance(found, Problem):
        return Problem(found.what, tuple(f"{RAY}{guess}" for guess in found.guesses))
    route = route.rstrip("/")
    if not re.fullmatch(r"([A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*)?", route):
        return Problem("has a route that is no path of letters, digits and . _ ~ -", (f"{RAY}{found}",))
    return f"{RAY}{found}/{route}" if route else f"{RAY}{found}"


def _list(texts: list[str]) -> str | Problem:
    """Servers that are one to the client; each of them counts once."""
    found: dict[str, None] = {}
    for text in texts:
        if not text:
            return Problem("has a comma with no server beside it", (",".join(filter(None, texts)),))
        one = Problem("is a path") if "/" in text else _host_and_port(text)
        if isinstance(one, Problem):
            return Problem(f"has a server in it, {shown_value(text)}, that {one.what}")
        found[one] = None
    return ",".join(found)


def _unix(path: str) -> str | Problem:
    if path.startswith("//"):
        path = path[2:]
        if path and not path.startswith("/"):
            return Problem("has a host in it: a path has one slash or three", (f"unix:/{path}",))
    if not path.strip("/"):
        return Problem("names no path")
    if _CONTROL.search(path):
        return Problem("has line ends or other control characters in its path")
    if not hasattr(socket, "AF_UNIX"):
        return Problem("is a Unix socket, which Python does not have on this system: give host:port")
    if re.search(r"[?#,]|[^\x00-\ud7ff\ue000-\U0010ffff]", path):
        return Problem("has a character in its path that gRPC cannot take: ? # , or none of Unicode")
    nbytes = len(path.encode())
    if nbytes > LONGEST_PATH:
        return Problem(f"has a path of {nbytes} bytes, but that of a Unix socket has at most {LONGEST_PATH}")
    return f"unix:{path}"


def _host_and_port(text: str, default_port: int = DEFAULT_PORT) -> str | Problem:
    if text.startswith("["):
        match = _BRACKETS.fullmatch(text)
        if match is None or not _is_ip(match[1], IPv6Address):
            return Problem("is no IPv6 address in brackets with a port after it")
        host, port = f"[{match[1]}]", match[2]
    elif text.count(":") > 1:
        return _too_many_colons(text)
    else:
        host, colon, after = text.partition(":")
        port = after if colon else None
        if not host:
            return Problem("names no host", (f"127.0.0.1:{port}",))
        if not _HOST.fullmatch(host):
            return Problem("is no host name: those have letters, digits, hyphens and dots")
        if re.fullmatch(r"[0-9.]+", host) and not _is_ip(host, IPv4Address):
            return Problem("is no IPv4 address", (f"127.0.0.1:{text}",))
    if port is None:
        return f"{host}:{default_port}"
    if not port:
        return Problem("has no port after the colon", (f"{host}:{default_port}",))
    if not (port.isascii() and port.isdigit()):
        return Problem(f"has the port {shown_value(port)}, which is not a number", (f"{host}:{default_port}",))
    if len(port) > 5 or not 0 < int(port) < 2**16:
        return Problem("has a port that is not between 1 and 65535")
    return f"{host}:{int(port)}"


def _too_many_colons(text: str) -> Problem:
    head, _, port = text.rpartition(":")
    guesses = []
    if _is_ip(head, IPv6Address):
        guesses.append(f"[{head}]:{port}")
    if _is_ip(text, IPv6Address):
        guesses.append(f"[{text}]:{DEFAULT_PORT}")
    if guesses:
        return Problem("is an IPv6 address without brackets", tuple(guesses))
    scheme, _, rest = text.partition(":")
    return Problem("has more than one colon", (f"dns:///{rest}" if scheme == "dns" else rest,))


def _is_ip(text: str, kind: type[IPv4Address | IPv6Address]) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True


def _refused(name: str, address: object, problem: Problem) -> InvalidArgument:
    guesses = list(problem.guesses)
    if isinstance(address, str):
        guesses += ["".join(address.split()), address.strip().lower()]
    likely = [one for one in dict.fromkeys(guesses) if one == EMBEDDED or isinstance(_read(one), str)]
    hint = f"; did you mean {' or '.join(likely)}?" if likely else ""
    shown = shown_value(address)
    return InvalidArgument(
        f"{name} = {shown} {problem.what}{hint or '.'} An address is {FORMS}",
        field="address",
        reason="MALFORMED_ADDRESS",
        metadata={"value": shown, "likely": " or ".join(likely)},
    )
