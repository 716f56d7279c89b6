"""Unary evaluations: what the line leaves no time for is refused before its message is read."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lossd_server.admission.byte_budget import Admission
from lossd_server.config.settings import Settings
from lossd_server.engine.uncomputed import line_too_long
from lossd_server.errors import Overloaded
from lossd_server.rpc.evaluations import UnaryEvaluations

SIZE = 1 << 20


class Source:
    """A call whose message is announced by its front, and must not be asked for."""

    peer = connection = subject = "memory"
    metadata = ()
    deadline = 12.5
    record = None

    def on_close(self, callback: object) -> None: ...

    async def next_size(self) -> int:
        return SIZE

    async def read(self) -> bytes:
        raise AssertionError("it was read")


def test_a_message_that_has_no_time_is_not_read() -> None:
    """The worker is asked with its size and the call's deadline; nothing is charged."""
    asked: list[tuple[int, float]] = []

    def require_time(size: int, _: object, deadline: float) -> None:
        asked.append((size, deadline))
        raise line_too_long(2.0, 1.0)

    def refused(_: str, error: Exception, *__: object) -> Exception:
        return error

    worker = cast("Any", SimpleNamespace(require_time=require_time, arriving=0))
    intake = cast("Any", SimpleNamespace(require_open=lambda: None, refused=refused))
    admission = Admission(8 * SIZE, 8, 2 * SIZE)
    evaluations = UnaryEvaluations(Settings(), admission, worker, intake, lambda: None)

    with pytest.raises(Overloaded, match="what is in line before"):
        asyncio.run(evaluations.evaluate("CrossEntropy", cast("Any", Source()), cast("Any", None)))
    assert asked == [(SIZE, 12.5)]
    assert (admission.requests, admission.bytes, worker.arriving) == (0, 0, 0)
