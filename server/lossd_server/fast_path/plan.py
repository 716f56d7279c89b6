"""One planned request: everything prepared but its numbers, which are copied in, computed, added up.

Of a request that is recalled, all but its numbers is known: where they lie in its bytes, the kernel's arguments, every
byte of the answer but losses, gradients, summary and timing. So its answer takes three compiled calls: `enter` brings
the numbers in and finds the denominator, the kernel computes, `leave` adds up and writes the answer's end. Whatever is
not plain (a class out of range, nothing kept) is left to `evaluate`.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from time import monotonic_ns
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.wire import tensor_header
from lossd_server.backends import Backend, Prepared
from lossd_server.fast_path.passage import BY_ROW, NO_LOSS, PLAN, SCALAR, enter, leave, store_number
from lossd_server.jobs.job import BadValue, Computed, Formula, Job, Reduction
from lossd_server.jobs.reduction import BY_CLASS, denominator_of, gradient_scale, scale_fits, weights_of
from lossd_server.tensors.array import STORAGE, Array, address_of
from lossd_server.wire import codec

BYTES_HEADER = bytes.__basicsize__ - 1  # of CPython, which numba needs: the bytes lie behind it, and then a zero
FLOAT32 = np.dtype(np.float32)


class Plan:
    """Answers requests like the one it was made from. Belongs to one thread."""

    def __init__(self, plan: npt.NDArray[Any], prepared: Prepared, response: npt.NDArray[np.uint8], keep: Any) -> None:
        self.response_bytes = len(response)  # no fewer than it will have
        self.rows = int(plan[0]["batch_rows"])
        self._plan = plan
        self._prepared = prepared
        self._response = response
        self._keep = keep

    def answer(self, body: bytes) -> bytes | None:
        """The serialised response to a request that differs in its numbers alone; None where `evaluate` must say."""
        start_ns = monotonic_ns()
        plan = self._plan
        if not enter(plan, id(body) + BYTES_HEADER) or not self._prepared.run():
            return None
        return self._response[: leave(plan, monotonic_ns() - start_ns)].tobytes()


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
    standing = replace(job, input=_own(job.input), target=None if job.target is None else _own(job.target))
    response, tensors = _response(job)
    computed, cleared = _computed(standing, tensors)
    prepared = backend.prepare(standing, computed)
    if prepared is None:
        return None
    by_mean = by_class and reducing.reduction is Reduction.MEAN and reducing.normalizer is None
    class_weight, row_weight = weights_of(job.class_weight), weights_of(job.row_weight)
    sums = computed.chunk_sums if formula.elementwise else computed.losses
    plan = np.zeros(1, PLAN)
    one = plan[0]
    one["input"] = address_of(standing.input.values)
    one["input_at"] = input_at
    one["input_bytes"] = standing.input.values.nbytes
    if standing.target is not None:
        one["target"] = address_of(standing.target.values)
        one["target_at"] = target_at
        one["target_bytes"] = standing.target.values.nbytes
        one["target_dtype"] = target_dtype
    one["by_class"] = by_class
    one["by_mean"] = by_mean
    one["rows"] = job.layout.rows
    one["classes"] = job.layout.classes
    one["ignore_index"] = job.ignore_index
    one["class_weight"] = address_of(class_weight)
    one["class_weights"] = len(class_weight)
    one["row_weight"] = address_of(row_weight)
    one["row_weights"] = len(row_weight)
    one["scale"] = prepared.scale_address
    if cleared is not None:
        one["cleared"] = address_of(cleared)
        one["cleared_bytes"] = cleared.nbytes
    if sums is not None and not formula.activation:
        one["sums"] = address_of(sums)
        one["sums_count"] = len(sums)
    one["loss"] = address_of(tensors[codec.LOSS])
    if formula.activation:
        one["loss_kind"] = NO_LOSS
    elif not unreduced:
        one["loss_kind"] = SCALAR
    else:
        one["loss_kind"] = NO_LOSS if formula.elementwise or formula is Formula.KL_ROWS else BY_ROW
    one["single"] = job.compute == FLOAT32
    one["answer"] = address_of(response)
    one["end"] = address_of(response) + len(response) - codec.SUMMARY_BYTES - codec.TIMING_BYTES
    one["count"] = denominator.count
    one["batch_rows"] = job.layout.elements if formula.elementwise else job.layout.rows
    one["upstream"] = reducing.upstream
    one["log_base"] = reducing.log_base
    one["weight_sum"] = denominator.weight_sum
    one["divisor"] = 1.0
    if reducing.reduction is Reduction.MEAN:
        one["divisor"] = denominator.weight_sum if reducing.normalizer is None else reducing.normalizer
    store_number(prepared.scale_address, scale)
    return Plan(plan, prepared, response, (standing, computed, tensors, class_weight, row_weight))


def _own(operand: Array) -> Array:
    """Memory that the numbers of each request are copied to."""
    return Array(operand.values.copy(), operand.dtype, operand.shape)


def _response(job: Job) -> tuple[npt.NDArray[np.uint8], dict[int, npt.NDArray[Any]]]:
    """The response's bytes, up to its summary as they will be sent; and the elements of its tensors, by field."""
    parts = b""
    places: dict[int, tuple[int, int, np.dtype[Any]]] = {}
    for number, dtype, shape in codec.tensors(job):
        parts += tensor_header(number, dtype, shape)
        stored = STORAGE[dtype]
        places[number] = len(parts), prod(shape) * stored.itemsize, stored
        parts += bytes(prod(shape) * stored.itemsize)
    response = np.frombuffer(bytearray(parts + bytes(codec.SUMMARY_BYTES + codec.TIMING_BYTES)), np.uint8)
    return response, {
        number: response[begin : begin + size].view(stored) for number, (begin, size, stored) in places.items()
    }


def _computed(job: Job, tensors: dict[int, npt.NDArray[Any]]) -> tuple[Computed, npt.NDArray[Any] | None]:
    """Where the kernel writes: into the response where it gives what goes there. And what it expects to be zeros."""
    computed = Computed()
    formula, layout = job.formula, job.layout
    if formula.activation:
        computed.values = tensors[codec.LOSS]
    elif formula.elementwise:
        computed.chunk_sums = np.empty(layout.chunks)
        computed.losses = tensors[codec.LOSS] if job.keep_losses else None
    else:
        computed.losses = np.empty(layout.rows)
        if formula is Formula.KL_ROWS and job.keep_losses:
            computed.values = tensors[codec.LOSS]
    computed.input_gradient = tensors.get(codec.INPUT_GRADIENT)
    computed.target_gradient = tensors.get(codec.TARGET_GRADIENT)
    return computed, computed.input_gradient if formula in BY_CLASS else None  # NLL writes one entry a row
