"""Address list: several servers as the one target that gRPC takes them for, which is of numbers alone."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address

from lossd.errors import Unavailable
from lossd.rpc.address import RAY
from lossd.rpc.server_directory import Unlisted, asked

# Of a host: its addresses as text.
Lookup = Callable[[str], Sequence[str]]


def names_in(address: str) -> list[str]:
    """Hosts of a list that have to be looked up, or the cluster that has to be asked; else none: gRPC does that."""
    if address.startswith(RAY):
        return [address]
    if "," not in address:
        return []
    hosts = (host_and_port(one)[0] for one in address.split(","))
    return [host for host in dict.fromkeys(hosts) if not _is_number(host)]


def all_looked_up(names: Sequence[str]) -> Mapping[str, Sequence[str]]:
    return {name: looked_up(name) for name in names}


def looked_up(host: str) -> Sequence[str]:
    """By the system, or by the cluster; none where it does not know the host."""
    if host.startswith(RAY):
        try:
            return asked(host).servers
        except Unavailable as failure:
            return Unlisted(failure)
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def host_and_port(address: str) -> tuple[str, str]:
    """Host, without brackets, and port of a checked address."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), port


def by_host(addresses: Sequence[str]) -> dict[str, list[str]]:
    """The addresses of each host."""
    found: dict[str, list[str]] = {}
    for address in addresses:
        found.setdefault(host_and_port(address)[0], []).append(address)
    return found


def target_of(addresses: Sequence[str], lookup: Lookup = looked_up) -> str:
    """All that is known of them; where that is nothing, the first as a name, so that gRPC says so.

    One kind of address to a target: IPv4 beside IPv6 is written as IPv6 has it (RFC 4291, 2.5.5.2).
    """
    found: list[tuple[str, str]] = []
    for address in addresses:
        host, port = host_and_port(address)
        numbers = [host] if _is_number(host) else lookup(host)
        found += ((number, port) for number in numbers)
    if not found:
        return f"dns:///{addresses[0]}"
    found = list(dict.fromkeys(found))
    if not any(":" in number for number, _ in found):
        return "ipv4:" + ",".join(f"{number}:{port}" for number, port in found)
    mapped = (number if ":" in number else f"::ffff:{number}" for number, _ in found)
    return "ipv6:" + ",".join(f"[{number}]:{port}" for number, (_, port) in zip(mapped, found, strict=True))


def _is_number(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
