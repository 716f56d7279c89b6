"""Evaluation of jobs in four steps: convert, denominators and scale, launch, finish.

Each step takes what the one before it gives. A job whose values are refused drops out where they are found, and costs
the others nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from lossd_server.backends import Backend
from lossd_server.engine.finish import Launched, finish, of_nothing
from lossd_server.errors import ServerError
from lossd_server.jobs.job import Answer, BadValue, Job, Launch, Reduction
from lossd_server.jobs.partial_results import Carry, UnknownCarry
from lossd_server.jobs.reduction import NOTHING, Denominator, denominator_of, gradient_scale, scale_fits
from lossd_server.jobs.stacks import Stack
from lossd_server.losses.conversion import convert, convert_denominator
from lossd_server.losses.value_errors import scale_error, value_error


def evaluate(
    backend: Backend, jobs: Sequence[Job], carries: Sequence[Carry | UnknownCarry | Stack | None] | None = None
) -> list[Answer | ServerError]:
    """One answer a job, in order; one backend run for all.

    carries: for a job that is a part, what those before it came to; its answer has the losses, gradients and outputs
    of its own items, no summary, and the carry for the next. For a job that is a stack: that.
    What `backend.run` raises passes through: it is the whole batch's.
    """
    ready = [scaled(job, carry) for job, carry in zip(jobs, carries or [None] * len(jobs), strict=True)]
    launches = [one.launch for one in ready if isinstance(one, Launched) and one.launch.job.layout.elements]
    results = iter(backend.run(launches) if launches else [])
    return [
        one
        if isinstance(one, ServerError)
        else finish(one, next(results) if one.launch.job.layout.elements else of_nothing(one.launch.job))
        for one in ready
    ]


def scaled(job: Job, carry: Carry | UnknownCarry | Stack | None) -> Launched | ServerError:
    """The job as kernels take it, its denominator, and the number that its gradients are multiplied by."""
    if isinstance(carry, UnknownCarry):
        found = carry_of_parts(carry.job)
        if isinstance(found, ServerError):
            return found
        carry = found
    if isinstance(carry, Stack):
        return Launched(Launch(job, carry.scale), NOTHING, carry)
    try:
        if job.raw:
            job = convert(job)
        denominator = denominator_of(job, NOTHING if carry is None else carry.kept)
    except BadValue as bad:
        return value_error(job, bad.fault, bad.index)
    if carry is None:
        scale = gradient_scale(job, denominator)
        if not scale_fits(job, scale):
            return scale_error(job, scale)
        return Launched(Launch(job, scale), denominator, None)
    return Launched(Launch(job, carry.scale, carry.weight_gradient), denominator, carry)


def scaled_by_denominator(job: Job) -> bool:
    """Whether the job's gradients are divided by a denominator that follows from its operands."""
    reducing = job.reducing
    graded = job.input_gradient or job.target_gradient or job.weight_gradient
    return graded and reducing.reduction is Reduction.MEAN and reducing.normalizer is None


def weighed(job: Job, before: Denominator = NOTHING) -> Denominator | ServerError:
    """The denominator of a job, or of a part of it and those `before`. The job may be raw."""
    try:
        return denominator_of(convert_denominator(job), before)
    except BadValue as bad:
        return value_error(job, bad.fault, bad.index)


def carry_of_parts(job: Job) -> Carry | ServerError:
    """What the first part of `job` starts from. Of a mean without normalizer the denominator must be known from it."""
    denominator = weighed(job) if scaled_by_denominator(job) else NOTHING
    return denominator if isinstance(denominator, ServerError) else carry_of(job, denominator)


def carry_of(job: Job, denominator: Denominator) -> Carry | ServerError:
    """The same once the denominator is known."""
    scale = gradient_scale(job, denominator)
    return Carry(scale) if scale_fits(job, scale) else scale_error(job, scale)
