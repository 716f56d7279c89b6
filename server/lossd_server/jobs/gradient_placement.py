"""Placement of gradients in the client's own memory: written there, or made unusable where the evaluation failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.contract import gradient_dtype
from lossd_server.jobs.job import Answer, Job
from lossd_server.tensors.array import FLOATS, STORAGE
from lossd_server.tensors.dtypes import narrowed

NAN = np.array([np.nan])


def delivered(answer: Answer) -> Answer:
    """The answer with every placed gradient in its place: copied there from backends that wrote it elsewhere."""
    job = answer.job
    if not job.placed:
        return answer
    return replace(
        answer,
        input_gradient=_at(job.placed.get("input"), answer.input_gradient),
        target_gradient=_at(job.placed.get("target"), answer.target_gradient),
        weight_gradient=_at(job.placed.get("weight"), answer.weight_gradient),
    )


def void(job: Job) -> None:
    """Fills the placed gradients with NaN: nothing of a failed evaluation's result is left."""
    dtypes = {"input": job.input.dtype, "target": job.target.dtype if job.target else 0, "weight": job.weight_dtype}
    for name in job.places:
        dtype = gradient_dtype(dtypes[name])
        if dtype in FLOATS:
            job.placed[name][:] = narrowed(NAN, dtype).astype(STORAGE[dtype])


def void_failed(jobs: Sequence[Job], outcomes: Sequence[object]) -> None:
    """What a failed job has already written of its gradients into its client's memory becomes NaN."""
    for job, outcome in zip(jobs, outcomes, strict=True):
        if job.places and isinstance(outcome, Exception):
            void(job)


def _at(place: npt.NDArray[Any] | None, gradient: npt.NDArray[Any] | None) -> npt.NDArray[Any] | None:
    if place is None or gradient is None or gradient is place:
        return gradient
    np.copyto(place, gradient)
    return place
