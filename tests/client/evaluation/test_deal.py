"""Blocks that are dealt to several threads, without any server."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import lossd
from lossd.command_error import CommandError
from lossd.evaluation.several.deal import MOST_FAILURES, Arrays, Deal, DealtBlock, Range
from lossd.results import Result, Summary, Timing

AWAY = lossd.Unavailable("away")


def dealt(count: int, most: int = 100) -> Deal:
    return Deal(iter([(i, i + 1) for i in range(count)]), lambda block: {"input": np.array([block[0]])}, most)


def result(block: DealtBlock) -> Result:
    return Result(block.arrays["input"], Summary(0.0, 1.0, 1), Timing(0.0, 0.0, 1, 1, 0.0))


def taken(deal: Deal) -> DealtBlock:
    block = deal.take()
    assert block is not None
    return block


def test_results_come_in_the_files_order() -> None:
    """Whatever the order in which they ended."""
    deal = dealt(4)
    blocks = [taken(deal) for _ in range(4)]
    for block in reversed(blocks):
        deal.end(block, result(block))
    threading.Thread(target=deal.take).start()  # which finds that all is read

    assert [block.range for block in deal.results(1.0)] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    deal.close()


def test_a_block_that_comes_back_is_the_next() -> None:
    """Before those that nobody has had."""
    deal = dealt(9)
    first, second = taken(deal), taken(deal)

    deal.give_back(second, AWAY, at_fault=False)
    deal.give_back(first, AWAY, at_fault=False)

    assert [taken(deal).number for _ in range(3)] == [0, 1, 2]


def test_a_block_that_fails_everywhere_ends() -> None:
    """With the last failure; what a server that goes away has not answered is no failure."""
    deal = dealt(1)
    late = lossd.DeadlineExceeded("late")
    for _ in range(9):
        deal.give_back(taken(deal), AWAY, at_fault=False)
    for _ in range(MOST_FAILURES):
        deal.give_back(taken(deal), late, at_fault=True)

    with pytest.raises(lossd.DeadlineExceeded, match="late"):
        next(deal.results(1.0))


def test_no_more_is_read_than_may_wait() -> None:
    """Another block is read once a result is taken."""
    read = []

    def reads(block: Range) -> Arrays:
        read.append(block)
        return {"input": np.zeros(1)}

    deal = Deal(iter([(i, i + 1) for i in range(9)]), reads, 2)
    for _ in range(2):
        block = taken(deal)
        deal.end(block, result(block))
    third: list[DealtBlock | None] = []
    thread = threading.Thread(target=lambda: third.append(deal.take()))
    thread.start()
    assert read == [(0, 1), (1, 2)]

    next(deal.results(1.0))
    thread.join()
    assert third[0] is not None
    assert third[0].range == (2, 3)


def test_what_cannot_be_read_is_raised_in_its_turn() -> None:
    """After the results before it."""

    def reads(block: Range) -> Arrays:
        if block[0] == 1:
            raise CommandError("x.npy: damaged")
        return {"input": np.zeros(1)}

    deal = Deal(iter([(0, 1), (1, 2)]), reads, 9)
    block = taken(deal)
    thread = threading.Thread(target=deal.take)
    thread.start()
    deal.end(block, result(block))

    results = deal.results(1.0)
    assert next(results).number == 0
    with pytest.raises(CommandError, match="damaged"):
        next(results)
    deal.close()
    thread.join()


def test_nobody_is_waited_for_without_end() -> None:
    """The reason why the last one went is raised; one who comes back in time goes on."""
    deal = dealt(2)
    deal.desert(AWAY)
    deal.desert(None)
    block = taken(deal)
    deal.end(block, result(block))
    results = deal.results(1e-3)
    assert next(results).number == 0

    deal.desert(AWAY)
    with pytest.raises(lossd.Unavailable, match="away"):
        next(results)
