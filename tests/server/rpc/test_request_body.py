"""Waiting for room: callers whose message's size is known before it is here."""

from __future__ import annotations

import asyncio

import pytest

from lossd_server.admission.byte_budget import Admission
from lossd_server.call.contract import Body
from lossd_server.errors import Overloaded, ServerError, TooLarge
from lossd_server.rpc.request_body import BodyReader
from lossd_server.rpc.unary_call import UnaryCall
from tests.server.memory_front import MemoryCall

MOST, BUDGET = 100, 250


class Reading:
    """A call that reads its message: what it got, or what it was told."""

    def __init__(self, reader: BodyReader, admission: Admission, size: int, deadline_s: float = 1e6) -> None:
        self.source = MemoryCall("/lossd.v1.LossService/NLL", [bytes(size)], connection=self)
        if deadline_s < 1e6:
            self.source.deadline = deadline_s
        self.admission = admission
        self.task = asyncio.ensure_future(self._read(reader))

    async def _read(self, reader: BodyReader) -> Body | ServerError:
        task = asyncio.current_task()
        assert task is not None
        self.call = UnaryCall(task, self.source, 0.0, float("inf"), self.admission.callers)
        try:
            return await reader.read(self.call, self.source, None)
        except ServerError as error:
            return error

    def over(self) -> None:
        self.call.release(self.admission)


async def settle() -> None:
    """Whatever can go on has gone on."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_small_one_comes_before_a_large_one_of_another() -> None:
    """Though it came later: nobody has had as little. The large one waits for room, and gets it."""

    async def run() -> None:
        admission = Admission(BUDGET, 100, MOST)
        reader = BodyReader(admission, 1000.0)
        first, second = Reading(reader, admission, 100), Reading(reader, admission, 100)
        large, small = Reading(reader, admission, 100), Reading(reader, admission, 10)
        await settle()
        assert (first.task.done(), second.task.done()) == (True, True)
        assert (large.task.done(), small.task.done()) == (False, True)
        assert admission.bytes == 210

        first.over()
        reader.wake()
        await settle()
        assert large.task.done()
        assert admission.bytes == 210

    asyncio.run(run())


@pytest.mark.parametrize(("wait_s", "deadline_s"), [(0.01, 1e6), (1000.0, 0.0)])
def test_after_the_time_for_waiting_a_caller_is_told_to_come_back(wait_s: float, deadline_s: float) -> None:
    """Or at its own deadline; it leaves the line, and is charged nothing."""

    async def run() -> None:
        admission = Admission(BUDGET, 100, MOST)
        reader = BodyReader(admission, wait_s)
        held = [Reading(reader, admission, 100) for _ in range(2)]
        await settle()
        late = Reading(reader, admission, 100, deadline_s)
        told = await late.task
        assert isinstance(told, Overloaded)
        assert told.retry_after_s
        assert admission.bytes == 200

        held[0].over()
        reader.wake()
        assert len(await Reading(reader, admission, 50).task) == 50  # type: ignore[arg-type]

    asyncio.run(run())


def test_what_never_fits_does_not_wait() -> None:
    """TooLarge, before anything of it is let in."""

    async def run() -> None:
        admission = Admission(BUDGET, 100, MOST)
        told = await Reading(BodyReader(admission, 1000.0), admission, MOST + 1).task

        assert isinstance(told, TooLarge)
        assert admission.bytes == 0

    asyncio.run(run())


def test_a_caller_that_goes_away_leaves_the_line() -> None:
    """Those behind it are let in."""

    async def run() -> None:
        admission = Admission(BUDGET, 100, MOST)
        reader = BodyReader(admission, 1000.0)
        held = [Reading(reader, admission, 100) for _ in range(2)]
        await settle()
        gone, small = Reading(reader, admission, 100), Reading(reader, admission, 10)
        await settle()
        gone.task.cancel()
        await settle()

        assert small.task.done()
        assert admission.bytes == 210
        for one in held:
            one.over()

    asyncio.run(run())
