"""Small requests like one before: checked once, then recalled by all that they say but the numbers of two tensors.

Callers in a loop send the same shapes and options again and again, and a check that sees only those costs more than
computing (8, 16). A request's key is the request itself, without the data of `input` and `target`: what it says, its
weights' numbers included, was accepted before. Lengths are compared again; values are checked where they are used.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lossd.v1 import service_pb2
from lossd_server import losses
from lossd_server.array import INTEGERS, STORAGE, Array
from lossd_server.job import Job

RECALLED_BYTES = 1 << 16  # of input and target: for larger requests a check is nothing beside their bytes
KEY_BYTES = 1 << 10
CAPACITY = 1024
TARGETED = frozenset(
    method.name
    for method in service_pb2.DESCRIPTOR.services_by_name["LossService"].methods
    if "target" in method.input_type.fields_by_name
)


class Recall:
    """`check` is `losses.check`, with a memory. Forgets everything when it is full."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._seen: dict[tuple[str, bytes], tuple[Job, int, int, int]] = {}

    def check(self, rpc: str, request: Any) -> Job:
        """The validated request. Raises InvalidRequest, NotServed."""
        given = request.input
        x: bytes = given.data
        targeted = rpc in TARGETED and request.HasField("target")
        y: bytes = request.target.data if targeted else b""
        if not x or len(x) + len(y) > RECALLED_BYTES:
            return losses.check(rpc, request)
        given.ClearField("data")
        if targeted:
            request.target.ClearField("data")
        key = rpc, request.SerializeToString()
        known = self._seen.get(key)
        if known is not None and known[1] == len(x) and known[2] == len(y):
            return again(known[0], x, y, known[3])
        given.data = x
        if y:
            request.target.data = y
        job = losses.check(rpc, request)
        if len(key[1]) <= KEY_BYTES and recallable(job, request, targeted):
            if len(self._seen) >= self._capacity:
                self._seen.clear()
            self._seen[key] = job, len(x), len(y), request.target.dtype if targeted else 0
        return job


def recallable(job: Job, request: Any, targeted: bool) -> bool:
    """Whether the job's input and target are nothing but the bytes sent (indices may have been widened)."""
    if job.input.dtype != request.input.dtype or not viewed(job.input):
        return False
    if job.target is None:
        return not targeted
    if viewed(job.target) and job.target.dtype == request.target.dtype:
        return True
    return request.target.dtype in INTEGERS and job.target.values.dtype == np.int64


def viewed(array: Array) -> bool:
    return isinstance(array.values.base, bytes)


def again(job: Job, x: bytes, y: bytes, target_dtype: int) -> Job:
    """The job with other numbers; `target_dtype` is what the target's were sent as."""
    other = object.__new__(Job)
    fields = other.__dict__
    fields.update(job.__dict__)
    given = job.input
    fields["input"] = Array(np.frombuffer(x, given.values.dtype), given.dtype, given.shape)
    target = job.target
    if target is not None:
        values = np.frombuffer(y, STORAGE[target_dtype]).astype(target.values.dtype, copy=False)
        fields["target"] = Array(values, target.dtype, target.shape)
    return other
