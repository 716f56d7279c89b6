"""Chunked job: a large job that is computed part by part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lossd.contract import gradient_dtype
from lossd_server.jobs.job import Answer, Job
from lossd_server.jobs.partial_results import Carry
from lossd_server.jobs.slicing import items, slice_job
from lossd_server.tensors.array import STORAGE


class ChunkedJob:
    """A large job on its way: which part is next, and what the parts so far gave.

    carry: where the job is itself a part. Gradients are written into one array each, where no place is given.
    """

    def __init__(self, job: Job, carry: Carry | None, each: int) -> None:
        place = dict(job.placed)
        for name, wanted, operand in (
            ("input", job.input_gradient, job.input),
            ("target", job.target_gradient, job.target),
        ):
            if wanted and operand is not None and name not in place:
                place[name] = np.empty(job.layout.elements, STORAGE[gradient_dtype(operand.dtype)])
        self.job = replace(job, placed=place)
        self.carry = carry
        self.answers: list[Answer] = []
        self.compute_ns = 0
        self.started_ns = 0
        self._each = each
        self._next = 0

    @property
    def left(self) -> int:
        """Items that are still to be computed."""
        return items(self.job) - self._next

    @property
    def first(self) -> int:
        """The first item of the part that is next."""
        return self._next

    def part(self) -> Job:
        """The part that is next."""
        return slice_job(self.job, self._next, min(self._each, self.left))

    def add(self, answer: Answer) -> None:
        """Takes the answer of that part, and goes on to the one after it."""
        self.carry = answer.carry
        self.answers.append(answer)
        self._next += min(self._each, self.left)
