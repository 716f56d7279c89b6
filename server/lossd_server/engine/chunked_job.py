"""Chunked job: a large job that is computed part by part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lossd.contract import gradient_dtype
from lossd_server.engine.evaluate import carry_of, scaled_by_denominator, weighed
from lossd_server.errors import ServerError
from lossd_server.jobs.job import Answer, Job
from lossd_server.jobs.partial_results import Carry, UnknownCarry, moved
from lossd_server.jobs.reduction import NOTHING
from lossd_server.jobs.slicing import items, slice_job
from lossd_server.losses.conversion import convert_shared
from lossd_server.tensors.array import STORAGE

# Rows whose weights are added up at once, before the first part: a few milliseconds.
WEIGHED_ROWS = 1 << 20


class ChunkedJob:
    """A large job on its way: which part is next, and what the parts so far gave.

    carry: where the job is itself a part. Gradients are written into one array each, where no place is given.
    """

    def __init__(self, job: Job, carry: Carry | UnknownCarry | None, each: int) -> None:
        place = dict(job.placed)
        for name, wanted, operand in (
            ("input", job.input_gradient, job.input),
            ("target", job.target_gradient, job.target),
        ):
            if wanted and operand is not None and name not in place:
                place[name] = np.empty(job.layout.elements, STORAGE[gradient_dtype(operand.dtype)])
        self.job = replace(job, placed=place)
        self.carry = carry if isinstance(carry, Carry) else None
        self._whole = carry.job if isinstance(carry, UnknownCarry) else None
        self.answers: list[Answer] = []
        self.compute_ns = 0
        self.started_ns = 0
        self._each = each
        self._next = 0
        self._kept = NOTHING
        self._weighed = 0  # items whose denominator is in `_kept`

    @property
    def left(self) -> int:
        """Items that are still to be computed."""
        return items(self.job) - self._next

    @property
    def first(self) -> int:
        """The first item of the part that is next."""
        return self._next

    def begin(self) -> ServerError | None:
        """A step on the way to the carry of the first part, which has to know the denominator of all of them."""
        if not self._weighed:
            self.job = convert_shared(self.job)
        job = self._whole or self.job
        whole = items(job)
        if scaled_by_denominator(job):
            count = min(whole - self._weighed, max(1, WEIGHED_ROWS * whole // job.layout.rows))
            kept = weighed(slice_job(job, self._weighed, count), self._kept)
            if isinstance(kept, ServerError):
                return moved(kept, self._weighed)
            self._kept = kept
            self._weighed += count
            if self._weighed < whole:
                return None
        carry = carry_of(job, self._kept)
        if isinstance(carry, ServerError):
            return carry
        self.carry = carry
        return None

    def part(self) -> Job:
        """The part that is next."""
        if not self._next:
            self.job = convert_shared(self.job)
        return slice_job(self.job, self._next, min(self._each, self.left))

    def add(self, answer: Answer) -> None:
        """Takes the answer of that part, and goes on to the one after it."""
        self.carry = answer.carry
        self.answers.append(answer)
        self._next += min(self._each, self.left)
