"""Batch table: a batch as the kernels see it, one record a job and a list of pieces, and where the answers go.

A job is described, not copied: the kernels read each request's bytes where they lie.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.contract import MAX_RANK, gradient_dtype
from lossd.v1 import tensor_pb2 as pb
from lossd_server.jobs.job import Computed, Fault, Formula, Job, Kind, Launch
from lossd_server.tensors.array import STORAGE, View, address_of

FORMULAS = {formula: number for number, formula in enumerate(Formula)}
CROSS_ENTROPY_INDEX = FORMULAS[Formula.CROSS_ENTROPY_INDEX]
CROSS_ENTROPY_DISTRIBUTION = FORMULAS[Formula.CROSS_ENTROPY_DISTRIBUTION]
ENTROPY_LOGITS = FORMULAS[Formula.ENTROPY_LOGITS]
ENTROPY_PROBABILITIES = FORMULAS[Formula.ENTROPY_PROBABILITIES]
ENTROPY_COUNTS = FORMULAS[Formula.ENTROPY_COUNTS]
CROSS_ENTROPY_KINDS_INDEX = FORMULAS[Formula.CROSS_ENTROPY_KINDS_INDEX]
CROSS_ENTROPY_KINDS_DISTRIBUTION = FORMULAS[Formula.CROSS_ENTROPY_KINDS_DISTRIBUTION]
KL_ROWS = FORMULAS[Formula.KL_ROWS]
SOFTMAX = FORMULAS[Formula.SOFTMAX]
LOG_SOFTMAX = FORMULAS[Formula.LOG_SOFTMAX]
BCE = FORMULAS[Formula.BCE]
BCE_WITH_LOGITS = FORMULAS[Formula.BCE_WITH_LOGITS]
KL = FORMULAS[Formula.KL]
SELF_INFORMATION = FORMULAS[Formula.SELF_INFORMATION]
SIGMOID = FORMULAS[Formula.SIGMOID]

KINDS = {kind: number for number, kind in enumerate(Kind)}
LOGITS = KINDS[Kind.LOGITS]
LOG_PROBABILITIES = KINDS[Kind.LOG_PROBABILITIES]
PROBABILITIES = KINDS[Kind.PROBABILITIES]
COUNTS = KINDS[Kind.COUNTS]

FAULTS = list(Fault)
CLASS_OUT_OF_RANGE = FAULTS.index(Fault.CLASS_OUT_OF_RANGE)
INPUT_NOT_PROBABILITY = FAULTS.index(Fault.INPUT_NOT_PROBABILITY)
TARGET_NOT_PROBABILITY = FAULTS.index(Fault.TARGET_NOT_PROBABILITY)
NEGATIVE_COUNT = FAULTS.index(Fault.NEGATIVE_COUNT)
EMPTY_COUNTS = FAULTS.index(Fault.EMPTY_COUNTS)

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
    "input_kind",
    "target_kind",
    "values",  # one entry an element: losses, or an activation
    "values_dtype",
    "class_weight_dtype",
    "lse",
    "entropy",
    "argmax",
    "correct",
    "finished",  # FINISHED float64 a row, for the weight's gradient
    "weight_gradient",
    "plain",  # 1: no z_loss, softcap, outputs, weight gradient, nor an activation
]
# Every address is 0 where there is nothing. Broadcast views have a rank of MAX_RANK, padded in front with size 1.
RECORD = np.dtype(
    [(name, np.int64) for name in _INTEGERS]
    + [(name, np.float64) for name in ("label_smoothing", "scale", "z_loss", "softcap")]
    + [("shape", np.int64, (MAX_RANK,))]
    + [(f"{name}_strides", np.int64, (MAX_RANK,)) for name in ("weight", "pos_weight", "upstream")]
)
PACK = struct.Struct(f"={len(_INTEGERS)}q4d")
VIEWS = struct.Struct(f"={4 * MAX_RANK}q")
NO_VIEWS = bytes(VIEWS.size)
NOWHERE = (0, 0)
COMPUTE_DTYPES = {np.dtype(np.float32): int(pb.DATA_TYPE_FLOAT32), np.dtype(np.float64): int(pb.DATA_TYPE_FLOAT64)}
# What is kept of a row for the weight's gradient: the index of its first greatest logit (or its sum of counts),
# ln(1 + rest), the factor of its gradient.
FINISHED = 3
OUTPUTS = {"lse": np.float64, "entropy": np.float64, "argmax": np.int64, "correct": np.uint8}
NO_OUTPUTS = [0] * len(OUTPUTS)
# A piece is rows (chunks, for the elementwise family; classes, for the weight's gradient) `begin` … `end` − 1
# of a job; fault: a Fault's number or −1.
PIECE = np.dtype([(name, np.int64) for name in ("job", "begin", "end", "fault", "fault_index")])

# Bytes of work in a piece: small enough that threads finish together.
PIECE_BYTES = 1 << 20
# Classes of a piece of the weight's gradient.
CLASSES = 1024


def allocate(job: Job, empty: Callable[[int, np.dtype[Any]], npt.NDArray[Any]]) -> Computed:
    """The answers' arrays, made by `empty`, uninitialised but for what kernels add to or leave out.

    Gradients that `job.placed` has room for are written there.
    """
    computed = Computed()
    rows, elements = job.layout.rows, job.layout.elements
    if job.formula.activation:
        computed.values = empty(elements, STORAGE[gradient_dtype(job.input.dtype)])
    elif job.formula.elementwise:
        computed.chunk_sums = np.empty(job.layout.chunks, np.float64)
        if job.keep_losses:
            computed.losses = empty(elements, job.compute)
    else:
        computed.losses = np.empty(rows, np.float64)
        if job.formula is Formula.KL_ROWS and job.keep_losses:
            computed.values = empty(elements, job.compute)
    if job.input_gradient:
        dtype = STORAGE[gradient_dtype(job.input.dtype)]
        place = job.placed.get("input")
        if place is not None and picks(job):
            place[:] = 0
        elif place is None:
            place = np.zeros(elements, dtype) if picks(job) else empty(elements, dtype)
        computed.input_gradient = place
    if job.target_gradient and job.target is not None:
        place = job.placed.get("target")
        computed.target_gradient = (
            empty(elements, STORAGE[gradient_dtype(job.target.dtype)]) if place is None else place
        )
    if job.weight_gradient:
        computed.weight_gradient = np.zeros(job.layout.classes, np.float64)
    computed.outputs = {name: np.empty(rows, OUTPUTS[name]) for name in job.outputs}
    return computed


def picks(job: Job) -> bool:
    """Whether a row's loss takes one entry of it, as NLL: the gradient is 0 elsewhere."""
    if job.formula is Formula.CROSS_ENTROPY_KINDS_INDEX:
        return job.label_smoothing == 0.0 and job.input_kind is not Kind.COUNTS
    return job.formula is Formula.NLL


def finished_rows(job: Job) -> npt.NDArray[np.float64] | None:
    """Room for what the weight's gradient needs of every row."""
    return np.zeros(FINISHED * job.layout.rows, np.float64) if job.weight_gradient else None


def describe(launch: Launch, computed: Computed, finished: npt.NDArray[np.float64] | None) -> bytes:
    """A job's record."""
    job = launch.job
    layout = job.layout
    weight, pos_weight, upstream = job.weight, job.pos_weight, job.upstream
    input_dtype = job.input.dtype
    target_dtype = job.target.dtype if job.target is not None else 0
    values = computed.losses if computed.values is None and job.formula.elementwise else computed.values
    outputs = computed.outputs
    plain = not (job.z_loss or job.softcap or outputs or job.weight_gradient or job.formula.activation)
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
        *(address_and_dtype(weight) if weight else NOWHERE),
        *(address_and_dtype(pos_weight) if pos_weight else NOWHERE),
        *(address_and_dtype(upstream) if upstream else NOWHERE),
        KINDS[job.input_kind],
        KINDS[job.target_kind],
        address_or_0(values),
        gradient_dtype(input_dtype) if job.formula.activation else COMPUTE_DTYPES[job.compute],
        COMPUTE_DTYPES[job.compute],
        *([address_or_0(outputs.get(name)) for name in OUTPUTS] if outputs else NO_OUTPUTS),
        address_or_0(finished),
        address_or_0(computed.weight_gradient),
        plain,
        job.label_smoothing,
        launch.scale,
        job.z_loss,
        job.softcap,
    )
    return PACK.pack(*numbers) + (broadcasts(weight, pos_weight, upstream) if job.formula.elementwise else NO_VIEWS)


def address_or_0(values: npt.NDArray[Any] | None) -> int:
    return 0 if values is None else address_of(values)


def address_and_dtype(view: View) -> tuple[int, int]:
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
    if job.work_bytes <= PIECE_BYTES:
        return [(number, 0, units, -1, 0)]
    step = max(1, units * PIECE_BYTES // max(1, job.work_bytes))
    if not job.formula.elementwise and job.layout.inner > 1:
        unit = job.layout.inner if job.layout.inner <= 16 else 16  # whole outer indices, or tiles of neighbouring rows
        step = -(-step // unit) * unit
    return [(number, begin, min(begin + step, units), -1, 0) for begin in range(0, units, step)]


def class_pieces_of(number: int, job: Job) -> list[tuple[int, ...]]:
    """The weight's gradient cut into pieces of classes: a class is summed by one thread, row after row."""
    classes = job.layout.classes
    return [(number, begin, min(begin + CLASSES, classes), -1, 0) for begin in range(0, classes, CLASSES)]
