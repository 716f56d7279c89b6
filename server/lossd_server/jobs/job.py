"""Job: one validated request. With it a batch's launch, and what a backend gives back.

A Job is one validated request. Reduction is data: kernels know none. They return unscaled losses, and gradients times
a scale that is known before the launch; adding losses up is a separate, ordered step (`evaluate`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum, auto
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd_server.tensors.array import Array, View
from lossd_server.tensors.request_fields import SharedMemoryRef

# Elements that one run of the elementwise family holds; the granularity of its sums (semantics: same bits).
RUN = 4096


class Formula(IntEnum):  # of ints for their hash: looked up several times a request
    """What a kernel computes. The first group has one loss a row, the second one an element."""

    CROSS_ENTROPY_INDEX = auto()  # (1−ε)·w[y]·(−log p[y]) + (ε/C)·Σ w·(−log p), p = softmax(input)
    CROSS_ENTROPY_DISTRIBUTION = auto()  # Σ w·((1−ε)·t + ε/C)·(−log p), p = softmax(input)
    ENTROPY_LOGITS = auto()  # −Σ p·ln p, p = softmax(input)
    ENTROPY_PROBABILITIES = auto()  # −Σ p·ln p, p = input
    ENTROPY_COUNTS = auto()  # −Σ q·ln q, q = input / Σ input
    NLL = auto()  # −w[y]·input[y]
    CROSS_ENTROPY_KINDS_INDEX = auto()  # CROSS_ENTROPY_INDEX with ln q in place of log p, q as `input_kind` says
    CROSS_ENTROPY_KINDS_DISTRIBUTION = auto()  # CROSS_ENTROPY_DISTRIBUTION likewise
    KL_ROWS = auto()  # t·(ln t − ln q) of every element, where a kind (LOGITS, COUNTS) is normalised over its row
    SOFTMAX = auto()  # exp(−((m − x) + log1p(rest))) of every element
    LOG_SOFTMAX = auto()  # −((m − x) + log1p(rest)) of every element
    BCE = auto()  # w·−[t·max(ln p, −100) + (1−t)·max(ln(1−p), −100)]
    BCE_WITH_LOGITS = auto()  # w·[pw·t·sp(−x) + (1−t)·sp(x)]
    KL = auto()  # t·(ln t − ln q), kinds PROBABILITIES or LOG_PROBABILITIES
    SELF_INFORMATION = auto()  # −ln p
    SIGMOID = auto()  # 1 / (1 + exp(−x))
    LOG_SIGMOID = auto()  # −ln(1 + exp(−x))

    @property
    def elementwise(self) -> bool:
        """Computed element by element, with no rows."""
        return self in _ELEMENTWISE

    @property
    def activation(self) -> bool:
        """Gives values of the input's dtype instead of losses."""
        return self in _ACTIVATIONS


_ACTIVATIONS = frozenset({Formula.SOFTMAX, Formula.LOG_SOFTMAX, Formula.SIGMOID, Formula.LOG_SIGMOID})
_ELEMENTWISE = frozenset(
    {Formula.BCE, Formula.BCE_WITH_LOGITS, Formula.KL, Formula.SELF_INFORMATION, Formula.SIGMOID, Formula.LOG_SIGMOID}
)


class Kind(IntEnum):
    """What the numbers of an operand mean: `lossd.v1.Kind`."""

    LOGITS = auto()
    LOG_PROBABILITIES = auto()
    PROBABILITIES = auto()
    COUNTS = auto()


@dataclass(frozen=True, slots=True)
class Layout:
    """Rows of `classes` entries. Entry (o, c, i) lies at `(o·classes + c)·inner + i`; row (o, i) has index
    `o·inner + i`. For the elementwise family: `outer` items of `classes` elements, inner 1.
    """

    outer: int
    classes: int
    inner: int

    @property
    def rows(self) -> int:
        return self.outer * self.inner

    @property
    def elements(self) -> int:
        return self.outer * self.classes * self.inner

    @property
    def chunk_items(self) -> int:
        """Items of one chunk of the elementwise family."""
        return max(1, ceil(RUN / self.classes)) if self.classes else 1

    @property
    def chunks(self) -> int:
        """Chunks of the elementwise family: item i belongs to chunk i // chunk_items."""
        return ceil(self.outer / self.chunk_items) if self.classes else 0


class Reduction(IntEnum):
    NONE = auto()
    MEAN = auto()
    SUM = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reducing:
    """How losses become the answer: applied by the host around the kernels.

    `upstream` is grad_output as a number, for a scalar loss; per-row and per-element upstream gradients are the Job's.
    `log_base` is ln(base).
    """

    reduction: Reduction = Reduction.MEAN
    normalizer: float | None = None
    empty_mean_zero: bool = False
    log_base: float = 1.0
    upstream: float = 1.0


@dataclass(frozen=True, kw_only=True)  # no slots: `recall` copies a job by its __dict__
class Job:
    """One validated request, ready for a backend. Every shape, length, dtype and option has been checked; values not.

    Row formulas: `target` is int64 of `layout.rows` entries (index) or lies like the input (distribution);
    `class_weight` has `layout.classes` entries of dtype `compute`; `row_weight` and `row_upstream` float64, one entry
    a row. Elementwise formulas: `target` lies like the input; `weight`, `pos_weight`, `upstream` are broadcast views of
    dtype `compute`. Of a raw job all of them are as they were sent, in STORAGE's dtypes, and a target of COUNTS is
    undivided: `losses.conversion` makes them ready where the job is computed.
    """

    rpc: str  # "CrossEntropy": names the answer's message
    formula: Formula
    layout: Layout
    compute: np.dtype[Any]  # float32 or float64: what the kernel computes in, and the loss's dtype
    input: Array
    target: Array | None = None
    class_weight: npt.NDArray[Any] | None = None
    row_weight: npt.NDArray[Any] | None = None
    row_upstream: npt.NDArray[Any] | None = None
    weight: View | None = None
    pos_weight: View | None = None
    upstream: View | None = None
    ignore_index: int = -100
    label_smoothing: float = 0.0
    input_kind: Kind = Kind.LOGITS  # of NLL, CROSS_ENTROPY_KINDS_*, KL and KL_ROWS
    target_kind: Kind = Kind.PROBABILITIES  # of KL and KL_ROWS
    z_loss: float = 0.0  # κ: softmax cross-entropy rows gain κ·lse²
    softcap: float = 0.0  # k > 0: softmax cross-entropy takes k·tanh(x/k) in place of x; 0: no cap
    outputs: frozenset[str] = frozenset()  # of softmax cross-entropy: "lse", "entropy", "argmax", "correct"
    reducing: Reducing = field(default_factory=Reducing)
    loss_shape: tuple[int, ...] = ()  # of reduction none
    input_gradient: bool = False
    target_gradient: bool = False
    weight_gradient: bool = False  # of the two formulas of cross-entropy with distributions
    raw: bool = False  # operands are as they were sent: `evaluate` converts them
    # Of a raw job, by field: the wire dtypes of class_weight, row_weight and row_upstream, that are to be widened.
    sent_dtypes: Mapping[str, int] = field(default_factory=dict)
    conversion_ns: float = 0.0  # of a raw job: what converting it takes, as estimated
    converted_bytes: int = 0  # and what its copies hold
    weight_dtype: int = 0  # the class weight's on the wire, which its gradient has
    placed: dict[str, npt.NDArray[Any]] = field(default_factory=dict)  # "input", "target", "weight": where gradients go
    places: dict[str, SharedMemoryRef] = field(
        default_factory=dict
    )  # the same in the client's words: those are not sent back
    # Held for this job beside its message and its answer: copies of shared memory, conversion's, losses of rows.
    copied_bytes: int = 0

    @property
    def keep_losses(self) -> bool:
        """Whether each element's loss is wanted (elementwise family and KL_ROWS), not only sums."""
        return self.reducing.reduction is Reduction.NONE

    @property
    def work_bytes(self) -> int:
        """Bytes read and written, roughly, and those of conversion's copies: what a batch's budget counts."""
        size = self.converted_bytes + self.input.computed_bytes * (1 + self.input_gradient)
        if self.target is not None:
            size += self.target.computed_bytes * (1 + self.target_gradient)
        return size


class Fault(Enum):
    """A value that cannot be computed with, found where it was used."""

    CLASS_OUT_OF_RANGE = auto()  # target index not in [0, C) and not ignore_index
    INPUT_NOT_PROBABILITY = auto()  # BCE's input outside [0, 1], or NaN
    TARGET_NOT_PROBABILITY = auto()  # BCE's target outside [0, 1], or NaN
    NEGATIVE_COUNT = auto()  # a count < 0 (or NaN)
    EMPTY_COUNTS = auto()  # a row of counts that sums to 0; index is the row's
    # Found while a target is converted, before any kernel:
    TARGET_NOT_BOOL = auto()  # a byte of a bool that is neither 0 nor 1
    TARGET_NEGATIVE_COUNT = auto()
    TARGET_EMPTY_COUNTS = auto()


class BadValue(Exception):
    """A value that a pass before the kernels found. fault, index: as of `Computed.fault`."""

    def __init__(self, fault: Fault, index: int) -> None:
        super().__init__(fault, index)
        self.fault = fault
        self.index = index


@dataclass(frozen=True, slots=True)
class Launch:
    """A Job and the number that its gradients are multiplied by: upstream / denominator / ln(base).

    weight_gradient: of a part: float64, `layout.classes` entries, what the parts before it came to. Not written to.
    """

    job: Job
    scale: float
    weight_gradient: npt.NDArray[np.float64] | None = None


@dataclass(slots=True)
class Computed:
    """What a backend gives for one Job.

    losses: row formulas: float64 or float32, `layout.rows` entries, with class and row weights, in nats, not scaled.
        Elementwise formulas: `layout.elements` entries of dtype `compute` where `job.keep_losses`, else None.
        KL_ROWS: the sum of each row in `losses`; each element's loss in `values` where `job.keep_losses`.
        Activations: None.
    values: activations: `layout.elements` entries, STORAGE dtype of `gradient_dtype`; KL_ROWS: of dtype `compute`.
    outputs: by name, one entry a row: "lse" and "entropy" float64 (nats, after softcap), "argmax" int64 (first of
        equals, −1 where the row has NaN), "correct" uint8 (0 for ignored rows).
    weight_gradient: float64, `layout.classes` entries: Σ over rows in index order of row factor · t' · (−log p).
    chunk_sums: elementwise formulas: float64, `layout.chunks` entries: the sum of each chunk's losses.
    input_gradient, target_gradient: flat, in C order, of the STORAGE dtype of that tensor's gradient
        (`gradient_dtype`); None where not asked for.
    fault: the first offending value: its kind and its flat index (in the target or input; a row for EMPTY_COUNTS).
        Nothing else of a Computed with a fault is used.
    """

    losses: npt.NDArray[Any] | None = None
    chunk_sums: npt.NDArray[np.float64] | None = None
    input_gradient: npt.NDArray[Any] | None = None
    target_gradient: npt.NDArray[Any] | None = None
    fault: tuple[Fault, int] | None = None
    values: npt.NDArray[Any] | None = None
    outputs: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    weight_gradient: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class JobSummary:
    """What a reduced loss is made of: see `lossd.v1.Summary`."""

    loss_sum: float
    weight_sum: float
    count: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A Job's finished result: what the response carries. Of a part (`partial_results`): its items', and the carry.

    loss: of dtype `job.compute` and shape () or `job.loss_shape`.
    An activation's values and gradients: flat, STORAGE dtype of `gradient_dtype`.
    """

    job: Job
    loss: npt.NDArray[Any]
    input_gradient: npt.NDArray[Any] | None
    target_gradient: npt.NDArray[Any] | None
    summary: JobSummary | None  # None for activations
    outputs: dict[str, npt.NDArray[Any]] = field(default_factory=dict)  # "lse" … in the loss's dtype; int64; uint8
    weight_gradient: npt.NDArray[Any] | None = None  # of the weight's dtype (float32 for 8-bit floats)
    carry: Any = None
