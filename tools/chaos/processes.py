"""Processes as /proc shows them: children, what they hold, and limits of one that runs."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

GONE = (FileNotFoundError, ProcessLookupError)


@dataclass(frozen=True, slots=True)
class Holdings:
    """Of a process: resident MiB, descriptors, mapped memfds, threads."""

    rss_mib: int
    descriptors: int
    memfds: int
    threads: int


def holdings(pid: int) -> Holdings:
    """Raises what GONE has where it has ended."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    maps = Path(f"/proc/{pid}/maps").read_text()
    return Holdings(
        rss_mib=int(status.get("VmRSS", "0 kB").split()[0]) >> 10,
        descriptors=len(os.listdir(f"/proc/{pid}/fd")),
        memfds=maps.count("memfd:"),
        threads=int(status["Threads"]),
    )


def virtual_bytes(pid: int) -> int:
    """What RLIMIT_AS counts."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()


def children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(*GONE):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def descendants(pid: int) -> list[int]:
    found = children(pid)
    for one in found:
        found += children(one)
    return found


def workers(pid: int) -> list[int]:
    """The serving processes below a supervisor."""
    found = []
    for one in children(pid):
        with suppress(*GONE):
            if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes():
                found.append(one)
    return found


def is_zombie(pid: int) -> bool:
    with suppress(*GONE):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return False


def limit(pid: int, what: int, most: int) -> None:
    """A soft limit of a running process; resource.RLIM_INFINITY for the hard one, which stays."""
    hard = resource.prlimit(pid, what)[1]
    resource.prlimit(pid, what, (hard if most == resource.RLIM_INFINITY else most, hard))
