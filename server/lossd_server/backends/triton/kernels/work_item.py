"""A program's work item: its job, its tile, and the memory that it reads and writes. Device functions."""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl

from lossd_server.backends.triton.descriptor import FAULTS, FORMULA, ITEM, WORDS


class WorkItem(NamedTuple):
    """What every program begins with. Fields are set by name: Triton's cache does not know their order."""

    job: tl.tensor  # pointer to the job's descriptor: int64 words
    formula: tl.tensor  # the job's
    tile: tl.tensor  # which tile of the job
    operands: tl.tensor  # pointer to bytes: offsets of operands begin here
    results: tl.tensor  # pointer to bytes: offsets of results begin here
    faults: tl.tensor  # pointer to the item's fault words: int64


class Extent(NamedTuple):
    """Where a tile in registers lies: part of its work item, so that it is asked for before the descriptor is read."""

    start: tl.tensor  # byte offset of its first entry
    count: tl.tensor  # its rows; its entries, of a block of a row and of a run
    classes: tl.tensor


@triton.jit
def load_work_item(words: tl.tensor, out: tl.tensor, first_item: tl.tensor, work_list: tl.tensor) -> WorkItem:
    """The program's work item; arguments as of `softmax_general_kernel`."""
    number = first_item + tl.program_id(0)
    entry = words + work_list + ITEM * number
    job = words + tl.load(entry) * WORDS
    return WorkItem(
        job=job,
        formula=tl.load(job + FORMULA),
        tile=tl.load(entry + 1),
        operands=words.to(tl.pointer_type(tl.uint8)),
        results=out.to(tl.pointer_type(tl.uint8)),
        faults=out + FAULTS * number,
    )


@triton.jit
def load_extent(words: tl.tensor, first_item: tl.tensor, work_list: tl.tensor) -> Extent:
    """The rest of the work item of a tile in registers."""
    entry = words + work_list + ITEM * (first_item + tl.program_id(0))
    packed = tl.load(entry + 3)
    return Extent(
        start=tl.load(entry + 2),
        count=(packed >> 32).to(tl.int32),
        classes=(packed & 0xFFFFFFFF).to(tl.int32),
    )


@triton.jit
def store_faults(item: WorkItem, first: tl.tensor, second: tl.tensor, third: tl.tensor) -> None:
    """Writes the first offending index of each kind of fault, NO_FAULT where there is none."""
    tl.store(item.faults, first)
    tl.store(item.faults + 1, second)
    tl.store(item.faults + 2, third)
