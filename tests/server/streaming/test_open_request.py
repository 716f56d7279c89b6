"""Opens whose denominator is of many rows: it is found with the first block, not where the Open is read."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from lossd.v1 import loss_pb2
from lossd.v1 import service_pb2 as service
from lossd_server.backends import Backend
from lossd_server.jobs.partial_results import Carry, UnknownCarry
from lossd_server.streaming.open_request import WEIGHED_AT_ONCE, open_request
from lossd_server.tensors.request_fields import fields_of
from tests.losses.messages import tensor
from tests.server.running import serving, stub
from tests.server.streaming.conversation import converse, messages, opened, whole

ROWS = WEIGHED_AT_ONCE + 1000
RNG = np.random.default_rng(7)


def request_of(rows: int, bad: int | None = None) -> Any:
    """A mean with its gradient, whose denominator follows from classes, their weights, and rows that are ignored."""
    target = RNG.integers(0, 3, rows)
    target[::7] = -100
    if bad is not None:
        target[bad] = 3
    return service.CrossEntropyRequest(
        input=tensor(RNG.normal(size=(rows, 3))),
        target=tensor(target, "int8"),
        weight=tensor([0.5, 1.5, 2.0], "float16"),
        row_weight=tensor(RNG.random(rows)),
        gradients=[loss_pb2.GRADIENT_INPUT],
    )


@pytest.mark.parametrize("rows, kind", [(ROWS, UnknownCarry), (100, Carry)])
def test_many_rows_are_not_looked_at_by_the_check(rows: int, kind: type) -> None:
    """The Open of a small evaluation tells its denominator at once; one of many rows leaves it open."""
    (said,) = [value for _, value in opened(request_of(rows), 1, ["input"]).ListFields() if hasattr(value, "input")]

    assert isinstance(open_request("CrossEntropy", fields_of(said), 1 << 24).start, kind)


@pytest.mark.parametrize("batch_kib", [64 << 10, 64], ids=["blocks", "blocks in parts"])
def test_the_answer_is_that_of_one_message(numba: Backend, batch_kib: int) -> None:
    """To the bit: loss, gradient and summary, whether blocks are computed whole or in parts."""
    request = request_of(ROWS)

    async def run() -> None:
        async with serving(numba, max_batch_bytes=batch_kib << 10) as (_, channel):
            unary = await stub(channel).CrossEntropy(request)
            unary.ClearField("timing")
            responses = await converse(channel, messages(request, 1, ["input"], (0, 9000, ROWS)))

            assert whole(request, responses, 1) == unary

    asyncio.run(run())


@pytest.mark.parametrize("batch_kib", [64 << 10, 64], ids=["blocks", "blocks in parts"])
def test_a_label_that_is_no_class_is_named(numba: Backend, batch_kib: int) -> None:
    """By its place in the whole target, once the first block is there."""
    request = request_of(ROWS, bad=ROWS - 5)

    async def run() -> None:
        async with serving(numba, max_batch_bytes=batch_kib << 10) as (_, channel):
            responses = await converse(channel, messages(request, 1, ["input"], (0, 9000, ROWS)))
            (failure,) = [one.failure for one in responses if one.WhichOneof("message") == "failure"]

            assert f"target[{ROWS - 5}] = 3 is outside [0, 3)" in failure.message

    asyncio.run(run())
