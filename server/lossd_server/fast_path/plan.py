"""Plan of small requests that differ in their numbers alone: all of the answer but what those decide.

Of a request that is recalled, all but its numbers is known: where they lie in its bytes, the kernel's arguments, every
byte of the answer but losses, gradients, summary and timing. `burst` computes any number of such requests in three
compiled calls: `passage.enter` finds the denominators and fills the kernels' table, the kernel computes, and
`passage.leave` adds up and writes the answers' ends. Whatever is not plain (a class out of range, nothing kept) is left
to `evaluate`.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.wire import tensor_header
from lossd_server.backends import Backend, Prepared
from lossd_server.fast_path.passage import BY_ROW, LOSSES, NO_LOSS, NOWHERE, PARTS, PLAN, SCALAR, SUMS
from lossd_server.jobs.job import BadValue, Computed, Formula, Job, Launch, Reduction
from lossd_server.jobs.reduction import BY_CLASS, denominator_of, gradient_scale, scale_fits, weights_of
from lossd_server.metrics.methods import LOSS_PLACES, UNKNOWN_LOSS
from lossd_server.tensors.array import STORAGE, address_of
from lossd_server.wire import codec

FLOAT32 = np.dtype(np.float32)
# Memory that the answers of one launch are written to, and what they are made of: requests with plans are small.
ANSWERS_BYTES = 1 << 20
WORK_BYTES = 1 << 18


class Plan:
    """How requests like one are answered. Nothing of it changes, so any number of them may use it at once.

    address: of its row of `passage.PLAN`. group: of plans with one kernel. response_bytes: no fewer than the answer
    will have. cost_ns: about how long it takes. rows: of the request; elements for elementwise losses.
    """

    __slots__ = ("_keep", "address", "cost_ns", "group", "prepared", "response_bytes", "rows")

    def __init__(self, plan: npt.NDArray[Any], prepared: Prepared, cost_ns: float, keep: Any) -> None:
        self.cost_ns = cost_ns
        self.address = address_of(plan)
        self.group = id(prepared.kernel), type(prepared.zero)
        self.prepared = prepared
        self.response_bytes = int(plan[0]["answer_bytes"])
        self.rows = int(plan[0]["batch_rows"])
        self._keep = plan, keep  # it has their addresses


def plan_of(backend: Backend, job: Job, input_at: int, target_at: int, target_dtype: int) -> Plan | None:
    """A plan for requests like that of `job`; None where there is none.

    input_at, target_at: where the elements start in their bytes; target_dtype: what the target's are there.
    """
    if job.outputs or job.weight_gradient or job.placed or not job.layout.elements:
        return None
    reducing, formula = job.reducing, job.formula
    unreduced = reducing.reduction is Reduction.NONE and not formula.activation
    by_class = formula in BY_CLASS
    if unreduced and reducing.log_base != 1.0 and (formula.elementwise or formula is Formula.KL_ROWS):
        return None
    try:
        denominator = denominator_of(job)
    except BadValue:
        return None
    scale = gradient_scale(job, denominator)
    if not scale_fits(job, scale) or (not by_class and denominator.weight_sum == 0.0):
        return None
    answer = Template(job)
    prepared = backend.prepare(Launch(job, scale), answer.computed)
    if prepared is None:
        return None
    class_weight, row_weight = weights_of(job.class_weight), weights_of(job.row_weight)
    record = np.frombuffer(prepared.record, np.uint8)
    plan = np.zeros(1, PLAN)
    one = plan[0]
    one["record"] = address_of(record)
    one["units"] = prepared.units
    one["input_at"] = input_at
    one["target_at"] = NOWHERE if job.target is None else target_at
    one["target_dtype"] = target_dtype
    one["by_class"] = by_class
    one["by_mean"] = by_class and reducing.reduction is Reduction.MEAN and reducing.normalizer is None
    one["rows"] = job.layout.rows
    one["classes"] = job.layout.classes
    one["ignore_index"] = job.ignore_index
    one["class_weight"] = address_of(class_weight)
    one["class_weights"] = len(class_weight)
    one["row_weight"] = address_of(row_weight)
    one["row_weights"] = len(row_weight)
    answer.describe(one)
    if by_class:
        one["labels_at"] = one["work_bytes"]
        one["work_bytes"] += 8 * job.layout.rows
    if formula.activation:
        one["loss_kind"] = NO_LOSS
    elif not unreduced:
        one["loss_kind"] = SCALAR
    else:
        one["loss_kind"] = NO_LOSS if formula.elementwise or formula is Formula.KL_ROWS else BY_ROW
    one["single"] = job.compute == FLOAT32
    one["count"] = denominator.count
    one["loss"] = LOSS_PLACES.get(job.rpc, UNKNOWN_LOSS)
    one["batch_rows"] = job.layout.elements if formula.elementwise else job.layout.rows
    one["upstream"] = reducing.upstream
    one["log_base"] = reducing.log_base
    one["weight_sum"] = denominator.weight_sum
    one["divisor"] = 1.0
    if reducing.reduction is Reduction.MEAN:
        one["divisor"] = denominator.weight_sum if reducing.normalizer is None else reducing.normalizer
    if one["answer_bytes"] > ANSWERS_BYTES or one["work_bytes"] > WORK_BYTES:
        return None
    return Plan(plan, prepared, backend.kernel_ns(job), (answer, record, class_weight, row_weight))


class Template:
    """An answer's bytes, as they will be sent but for elements and what comes behind them. computed: where the kernel
    would write: into them where it gives what goes there."""

    def __init__(self, job: Job) -> None:
        self._parts: list[tuple[int, int]] = []
        self._places: dict[int, tuple[int, int, np.dtype[Any]]] = {}
        written = b""
        for number, dtype, shape in codec.tensors(job):
            header, stored = tensor_header(number, dtype, shape), STORAGE[dtype]
            self._parts.append((len(written), len(header)))
            written += header
            self._places[number] = len(written), prod(shape) * stored.itemsize, stored
            written += bytes(prod(shape) * stored.itemsize)
        self._end = len(written)
        self._bytes = np.frombuffer(bytearray(written + bytes(codec.SUMMARY_BYTES + codec.TIMING_BYTES)), np.uint8)
        self._job = job
        self.computed = self._computed()

    def describe(self, one: Any) -> None:
        """Fills in what a plan says of the answer."""
        job, computed = self._job, self.computed
        formula = job.formula
        by_element = codec.LOSS if formula.elementwise and computed.losses is not None else None
        for name, number in (
            ("losses_at", by_element),
            ("values_at", by_element if computed.values is None else codec.LOSS),
            ("input_gradient_at", codec.INPUT_GRADIENT),
            ("target_gradient_at", codec.TARGET_GRADIENT),
            ("loss_at", codec.LOSS),
        ):
            one[name] = self._places[number][0] if number in self._places else NOWHERE
        for part, (at, size) in enumerate(self._parts):
            one["part_at"][part], one["part_bytes"][part] = at, size
        if formula in BY_CLASS and computed.input_gradient is not None:  # NLL writes one entry a row
            one["cleared_bytes"] = computed.input_gradient.nbytes
        sums = None if formula.activation else computed.chunk_sums if formula.elementwise else computed.losses
        one["sums_at"] = NOWHERE
        if sums is not None:
            one["sums_at"], one["sums_count"] = 0, len(sums)
            one["sums_field"] = SUMS if formula.elementwise else LOSSES
            one["work_bytes"] = 8 * len(sums)
        one["answer"] = address_of(self._bytes)
        one["answer_bytes"] = len(self._bytes)
        one["end_at"] = self._end

    def _computed(self) -> Computed:
        computed = Computed()
        job = self._job
        formula, layout = job.formula, job.layout
        if formula.activation:
            computed.values = self._elements(codec.LOSS)
        elif formula.elementwise:
            computed.chunk_sums = np.empty(layout.chunks)
            computed.losses = self._elements(codec.LOSS) if job.keep_losses else None
        else:
            computed.losses = np.empty(layout.rows)
            if formula is Formula.KL_ROWS and job.keep_losses:
                computed.values = self._elements(codec.LOSS)
        computed.input_gradient = self._elements(codec.INPUT_GRADIENT)
        computed.target_gradient = self._elements(codec.TARGET_GRADIENT)
        return computed

    def _elements(self, number: int) -> npt.NDArray[Any] | None:
        if number not in self._places:
            return None
        begin, size, stored = self._places[number]
        return self._bytes[begin : begin + size].view(stored)


assert len((codec.LOSS, codec.INPUT_GRADIENT, codec.TARGET_GRADIENT)) == PARTS
