"""A batch as the kernels see it: one record a job, a list of pieces, and where the answers go.

A job is described, not copied: the kernels read each request's bytes where they lie.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd_server.array import STORAGE, View, gradient_dtype
from lossd_server.job import Computed, Fault, Formula, Job, Launch

FORMULAS = {formula: number for number, formula in enumerate(Formula)}
CROSS_ENTROPY_INDEX = FORMULAS[Formula.CROSS_ENTROPY_INDEX]
CROSS_ENTROPY_DISTRIBUTION = FORMULAS[Formula.CROSS_ENTROPY_DISTRIBUTION]
ENTROPY_LOGITS = FORMULAS[Formula.ENTROPY_LOGITS]
ENTROPY_PROBABILITIES = FORMULAS[Formula.ENTROPY_PROBABILITIES]
ENTROPY_COUNTS = FORMULAS[Formula.ENTROPY_COUNTS]
BCE = FORMULAS[Formula.BCE]
BCE_WITH_LOGITS = FORMULAS[Formula.BCE_WITH_LOGITS]

FAULTS = list(Fault)
CLASS_OUT_OF_RANGE = FAULTS.index(Fault.CLASS_OUT_OF_RANGE)
INPUT_NOT_PROBABILITY = FAULTS.index(Fault.INPUT_NOT_PROBABILITY)
TARGET_NOT_PROBABILITY = FAULTS.index(Fault.TARGET_NOT_PROBABILITY)
NEGATIVE_COUNT = FAULTS.index(Fault.NEGATIVE_COUNT)
EMPTY_COUNTS = FAULTS.index(Fault.EMPTY_COUNTS)

MAX_RANK = 8
_INTEGERS = [
    "formula",
    "outer",
    "classes",
    "inner",
    "input",
    "input_dtype",
    "target",
    "target_dtype",
    "class_weight",
    "row_weight",
    "row_upstream",
    "losses",
    "chunk_sums",
    "input_gradient",
    "input_gradient_dtype",
    "target_gradient",
    "target_gradient_dtype",
    "ignore_index",
    "weight",
    "weight_dtype",
    "pos_weight",
    "pos_weight_dtype",
    "upstream",
    "upstream_dtype",
]
# Every address is 0 where there is nothing. Broadcast views have a rank of MAX_RANK, padded in front with size 1.
RECORD = np.dtype(
    [(name, np.int64) for name in _INTEGERS]
    + [("label_smoothing", np.float64), ("scale", np.float64)]
    + [("shape", np.int64, (MAX_RANK,))]
    + [(f"{name}_strides", np.int64, (MAX_RANK,)) for name in ("weight", "pos_weight", "upstream")]
)
PACK = struct.Struct(f"={len(_INTEGERS)}q2d")
VIEWS = struct.Struct(f"={4 * MAX_RANK}q")
NO_VIEWS = bytes(VIEWS.size)
NOWHERE = (0, 0)
# A piece is rows (chunks, for the elementwise family) `begin` … `end` − 1 of a job; fault: a Fault's number or −1.
PIECE = np.dtype([(name, np.int64) for name in ("job", "begin", "end", "fault", "fault_index")])

# Bytes of work in a piece: small enough that threads finish together and that small jobs find their way between.
PIECE_BYTES = 1 << 20


def address_of(values: npt.NDArray[Any]) -> int:
    """Where an array's first element lies."""
    address: int = values.__array_interface__["data"][0]
    return address


def allocate(job: Job, empty: Callable[[int, np.dtype[Any]], npt.NDArray[Any]]) -> Computed:
    """The answers' arrays, uninitialised, made by `empty`."""
    computed = Computed()
    if job.formula.elementwise:
        computed.chunk_sums = np.empty(job.layout.chunks, np.float64)
        if job.keep_losses:
            computed.losses = empty(job.layout.elements, job.compute)
    else:
        computed.losses = np.empty(job.layout.rows, np.float64)
    if job.input_gradient:
        computed.input_gradient = empty(job.layout.elements, STORAGE[gradient_dtype(job.input.dtype)])
    if job.target_gradient and job.target is not None:
        computed.target_gradient = empty(job.layout.elements, STORAGE[gradient_dtype(job.target.dtype)])
    return computed


def describe(launch: Launch, computed: Computed) -> bytes:
    """A job's record."""
    job = launch.job
    layout = job.layout
    weight, pos_weight, upstream = job.weight, job.pos_weight, job.upstream
    input_dtype = job.input.dtype
    target_dtype = job.target.dtype if job.target is not None else 0
    numbers = (
        FORMULAS[job.formula],
        layout.outer,
        layout.classes,
        layout.inner,
        address_of(job.input.values),
        input_dtype,
        0 if job.target is None else address_of(job.target.values),
        target_dtype,
        address_or_0(job.class_weight),
        address_or_0(job.row_weight),
        address_or_0(job.row_upstream),
        address_or_0(computed.losses),
        address_or_0(computed.chunk_sums),
        address_or_0(computed.input_gradient),
        gradient_dtype(input_dtype),
        address_or_0(computed.target_gradient),
        gradient_dtype(target_dtype),
        job.ignore_index,
        *(lies(weight) if weight else NOWHERE),
        *(lies(pos_weight) if pos_weight else NOWHERE),
        *(lies(upstream) if upstream else NOWHERE),
        job.label_smoothing,
        launch.scale,
    )
    return PACK.pack(*numbers) + (broadcasts(weight, pos_weight, upstream) if job.formula.elementwise else NO_VIEWS)


def address_or_0(values: npt.NDArray[Any] | None) -> int:
    return 0 if values is None else address_of(values)


def lies(view: View) -> tuple[int, int]:
    return address_of(view.values), view.dtype


def broadcasts(*views: View | None) -> bytes:
    """The common shape and each view's strides, at MAX_RANK."""
    present = [view for view in views if view is not None]
    if not present:
        return NO_VIEWS
    pad = MAX_RANK - len(present[0].shape)
    numbers = [*(1,) * pad, *present[0].shape]
    for view in views:
        numbers += [*(0,) * pad, *view.strides] if view is not None else [0] * MAX_RANK
    return VIEWS.pack(*numbers)


def pieces_of(number: int, job: Job) -> list[tuple[int, ...]]:
    """A job cut into pieces of about PIECE_BYTES."""
    units = job.layout.chunks if job.formula.elementwise else job.layout.rows
    step = max(1, units * PIECE_BYTES // max(1, job.work_bytes))
    if not job.formula.elementwise and job.layout.inner > 1:
        whole = job.layout.inner if job.layout.inner <= 16 else 16  # whole outer indices, or tiles of neighbouring rows
        step = -(-step // whole) * whole
    return [(number, begin, min(begin + step, units), -1, 0) for begin in range(0, units, step)]
