"""Peers that take turns, so that a busy moment of the machine falls on all of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from statistics import median
from subprocess import SubprocessError
from typing import TypeVar

from processes import PeerFailed

Found = TypeVar("Found")


def rounds(peers: Mapping[str, Callable[[], Found]], count: int) -> tuple[dict[str, list[Found]], dict[str, str]]:
    """What each peer found in each round, and why a peer has fewer than `count` of them.

    The order turns around from round to round. A peer that fails is asked no more; the others go on.
    """
    found: dict[str, list[Found]] = {name: [] for name in peers}
    failed: dict[str, str] = {}
    for number in range(count):
        for name in list(peers)[:: 1 if number % 2 == 0 else -1]:
            if name in failed:
                continue
            try:
                found[name].append(peers[name]())
            except (PeerFailed, SubprocessError, RuntimeError) as error:
                failed[name] = str(error)
                print(f"  {name}: {error}", file=sys.stderr, flush=True)
    return {name: rows for name, rows in found.items() if name not in failed}, failed


def middle(rows: list[dict[str, float]]) -> dict[str, float]:
    """The median of each figure."""
    return {key: median(row[key] for row in rows) for key in rows[0]}
