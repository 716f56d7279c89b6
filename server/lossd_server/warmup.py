"""Warm-up: compiles or loads all that computes, for a server, an embedded one and an image alike."""

from __future__ import annotations

from collections.abc import Callable

from lossd_server.backends import Backend
from lossd_server.fast_path import passage
from lossd_server.jobs import reduction, stacks


def warm_up(backend: Backend, report: Callable[[str], None]) -> None:
    """Until this returns a call may be the first to need a kernel. report: told one line a step."""
    report("preparing sums and denominators")
    reduction.warm_up()
    stacks.warm_up()
    passage.warm_up()
    backend.warm_up(report)
