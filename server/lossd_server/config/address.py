"""Listening addresses: how they are written, whether they are local, whether they are free."""

from __future__ import annotations

import grp
import os
import socket
import stat
from contextlib import ExitStack
from ipaddress import ip_address


def split(address: str) -> tuple[str, int]:
    """The host and port of `host:port` or `[ipv6]:port`. Raises ValueError with a sentence."""
    host, colon, port = address.rpartition(":")
    if not colon or not host:
        raise ValueError("an address is host:port or unix:path")
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(f"port {port!r} is not a number from 0 to 65535")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError("an IPv6 host is written in brackets: [::1]:50051")
    return host.strip("[]"), int(port)


def is_local(address: str) -> bool:
    """Whether only this machine can reach `address`: a Unix socket, or a loopback host."""
    if address.startswith("unix:"):
        if len(address) == len("unix:"):
            raise ValueError("a Unix socket needs a path")
        return True
    host, _ = split(address)
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name, which may resolve to any address
        return False


def check_free(address: str) -> None:
    """Raises OSError with a sentence if something listens on `address` already.

    gRPC would silently take over a Unix socket's path from a running server, and would report a busy port only after
    the kernels were compiled.
    """
    if address.startswith("unix:"):
        path = address.removeprefix("unix:").removeprefix("//")
        check_socket_path(path)
        if os.path.exists(path):
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(path) == 0:
                    raise OSError(f"another server listens on {address}")
        return
    host, port = split(address)
    if port == 0:
        return
    for family, kind, protocol, _, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind(where)
            except OSError as error:
                raise OSError(f"cannot listen on {address}: {error.strerror}") from None


def check_socket_path(path: str) -> None:
    """Raises OSError where no Unix socket could be made at `path`, or something else is there."""
    length = len(os.fsencode(path))
    if length > 107:
        raise OSError(f"{path} has {length} bytes, a Unix socket's path has at most 107")
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise OSError(f"cannot listen on {path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OSError(f"cannot listen on {path}: {folder} cannot be written")
    if os.path.lexists(path) and not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise OSError(f"cannot listen on {path}: a file is there that is no socket")


def group_of(name: str) -> int:
    """A group's number, by its name or number; −1 for "". Raises OSError with a sentence."""
    if not name or name.isdigit():
        return int(name or -1)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise OSError(f"shared_memory_group = {name!r} is no group of this machine") from None


def reserve(address: str, stack: ExitStack) -> str:
    """Binds a TCP address that several processes will share, without listening. Returns it with its port.

    Port 0 becomes a free port here. stack: keeps the address bound. Raises OSError with a sentence.
    """
    check_free(address)
    host, port = split(address)
    family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    holder = stack.enter_context(socket.socket(family, kind, protocol))
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        holder.bind(where)
    except OSError as error:
        raise OSError(f"cannot listen on {address}: {error.strerror}") from None
    return f"{address.rpartition(':')[0]}:{holder.getsockname()[1]}"
