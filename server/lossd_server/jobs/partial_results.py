"""Partial results: what one part of a job hands on to the next, and the parts' answers joined.

An item is one index of the input's dimension 0. However a job is cut, its answer has the bits of the whole: losses are
added from the left with what each addition rounds off, and both numbers are handed on; elementwise losses are cut
between chunks only; the gradients' scale is known before the first part.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lossd_server.errors import ServerError
from lossd_server.jobs.job import Answer, Job
from lossd_server.jobs.reduction import NOTHING, Denominator


@dataclass(frozen=True, slots=True)
class Carry:
    """What the parts so far came to.

    scale: what all gradients are multiplied by. loss_total, loss_lost: their losses' sum in nats, and what it rounded
    off. weight_gradient: float64, one entry a class, scaled.
    """

    scale: float
    kept: Denominator = NOTHING
    loss_total: float = 0.0
    loss_lost: float = 0.0
    weight_gradient: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class UnknownCarry:
    """What the first part starts from, where that is computed with it: the denominator is of many rows.

    job: the whole, whose streamed elements are not there.
    """

    job: Job


def moved(error: ServerError, first: int) -> ServerError:
    """A refusal of a part whose first item is `first`, with the index that the value at fault has in the whole."""
    place = error.metadata.get("index", "")
    field, bracket, rest = place.partition("[")
    if not first or not bracket:
        return error
    index, mark, others = rest.partition(",") if "," in rest else rest.partition("]")
    there = f"{field}[{int(index) + first}{mark}{others}"
    return type(error)(
        error.message.replace(place, there, 1),
        reason=error.reason,
        field=error.field,
        metadata={**error.metadata, "index": there},
        retry_after_s=error.retry_after_s,
    )


def join_parts(job: Job, answers: list[Answer]) -> Answer:
    """The answers of a job's parts, in order, as one answer, with the last one's carry. `job.placed` has gradients."""
    if len(answers) == 1:
        return answers[0]
    last = answers[-1]
    return replace(
        last,
        job=job,
        loss=np.concatenate([answer.loss for answer in answers]) if last.loss.ndim else last.loss,
        input_gradient=job.placed.get("input"),
        target_gradient=job.placed.get("target"),
        outputs={name: np.concatenate([answer.outputs[name] for answer in answers]) for name in last.outputs},
    )
