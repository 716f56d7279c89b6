"""Long work on the loop is done in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from lossd.v1 import service_pb2 as pb
from lossd_server.backends import Backend
from lossd_server.streaming import time_slices
from lossd_server.streaming.time_slices import SLICE_S, StepRunner, TimeSlices
from tests.server.messages import cross_entropy
from tests.server.running import held, serving
from tests.server.streaming.conversation import Talk, failures, messages, opened, reason
from tests.waiting import until_awaited

MANY = 40


def test_a_slice_ends_with_its_time() -> None:
    """And the next one begins with the question that ended it."""
    now = [100.0]
    slices = TimeSlices(lambda: now[0])
    found = []
    for step in (0.5, 0.6, 0.5, 0.4, 0.2):
        now[0] += step * SLICE_S
        found.append(slices.is_over())

    assert found == [False, True, False, False, True]


def test_steps_are_taken_in_turns() -> None:
    """The first at once, the others between those of everybody else; what they raise is told at their end."""

    async def run() -> None:
        taken: list[str] = []
        ends: list[Exception | None] = []

        def steps(name: str, fails: bool = False) -> Iterator[None]:
            for number in range(2):
                taken.append(f"{name} {number}")
                yield
            if fails:
                raise MemoryError

        runner = StepRunner(ends.append)
        runner.go_on_with(steps("a"))
        runner.go_on_with(steps("b", fails=True))
        assert taken == ["a 0", "b 0"]
        await until_awaited(lambda: not runner, "all steps are taken")

        assert taken == ["a 0", "b 0", "a 1", "b 1"]
        assert [type(error) for error in ends] == [type(None), MemoryError]

    asyncio.run(run())


def test_steps_that_are_cancelled_are_not_taken() -> None:
    """Nor is their end told."""

    async def run() -> None:
        ends: list[Exception | None] = []
        runner = StepRunner(ends.append)
        runner.go_on_with(iter([None] * 3))
        runner.cancel()
        await until_awaited(lambda: not runner, "nothing is left")

        assert ends == []

    asyncio.run(run())


@pytest.fixture
def _short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shortest there are: others have their turn after each evaluation."""
    monkeypatch.setattr(time_slices, "SLICE_S", 0.0)


def refusals() -> list[tuple[list[pb.StreamRequest], str]]:
    """Messages whose evaluations all fail, each kind at another stage; and the reason."""
    wrong_shape, wrong_value = cross_entropy(), cross_entropy()
    wrong_shape.input.shape[0] = 5
    wrong_value.target.data = b"\x0f" + bytes(31)
    kinds: list[tuple[pb.Open, str]] = [
        (pb.Open(), "MISSING_FIELD"),
        (pb.Open(cross_entropy=wrong_shape), "LENGTH_MISMATCH"),
        (pb.Open(cross_entropy=wrong_value), "CLASS_OUT_OF_RANGE"),
    ]
    found = []
    for one, why in kinds:
        opens = [pb.Open(evaluation_id=number) for number in range(MANY)]
        for each in opens:
            each.MergeFrom(one)
        found.append(([pb.StreamRequest(opens=pb.Opens(opens=opens))], why))
    open_only = [next(messages(cross_entropy(), number, ["input"], [0, 4])) for number in range(MANY)]
    return [*found, (open_only, "END_MISSING")]


@pytest.mark.usefixtures("_short_slices")
@pytest.mark.parametrize(("sent", "why"), refusals(), ids=[why for _, why in refusals()])
def test_evaluations_that_fail_together_let_others_have_their_turn(
    numba: Backend, sent: list[pb.StreamRequest], why: str
) -> None:
    """At whatever stage: each has its Failure, in the order of the message, and the stream ends when all have left."""

    async def run() -> None:
        async with serving(numba) as (_, channel):
            talk = Talk(channel)
            await talk.send(*sent)
            await talk.send(pb.StreamRequest(open=opened(cross_entropy(), MANY)))
            responses = await talk.rest()

            found = failures(responses)
            assert list(found) == list(range(MANY))
            assert {reason(one) for one in found.values()} == {why}
            assert [one.result.evaluation_id for one in responses if one.HasField("result")] == [MANY]
            assert await held(channel) == (0, 0)

    asyncio.run(run())
