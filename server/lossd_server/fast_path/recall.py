"""Request cache: small requests like one before are checked once, then recognised by all but two tensors' numbers.

Callers in a loop send the same shapes and options again and again, and to parse and check those costs more than to
compute (8, 16). So what lies before, between and behind the elements of `input` and `target` is compared with requests
that were accepted: what those bytes say, weights included, was checked, and elements are checked where they are used.
This is for requests as the generated class writes them: there a tensor's place is known by what is said of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lossd.v1 import service_pb2
from lossd.wire import tensor_header
from lossd_server.call.contract import Body
from lossd_server.fast_path.plan import Plan
from lossd_server.jobs.job import Job
from lossd_server.tensors.array import INTEGERS, STORAGE, Array
from lossd_server.tensors.request_fields import Fields, WireTensor, fields_of

RECALLED_BYTES = 1 << 16  # of a request: for larger ones a check is nothing beside their bytes
KEY_BYTES = 1 << 10  # of what is compared
CAPACITY = 1024
ALIKE = 8  # requests of one length that are told apart
HELD_BYTES = 1 << 24  # of all that is kept, plans included: beyond it everything is forgotten
# What is kept beside numbers and answers: of a request, and of its plan.
ENTRY_BYTES, PLAN_BYTES = 1 << 12, 1 << 13
INPUT, TARGET = 1, 2  # field numbers, in every request
TARGETED = frozenset(
    method.name
    for method in service_pb2.DESCRIPTOR.services_by_name["LossService"].methods
    if "target" in method.input_type.fields_by_name
)

# Makes the plan of a job whose input and target lie at these offsets, the target's elements of that dtype.
Planner = Callable[[Job, int, int, int], Plan | None]


class Recalled:
    """An accepted request: what another must say, byte by byte, to differ from it in numbers alone.

    input_at, target_at: where their elements start, both at the body's end where there is no target. target_dtype: what
    the target's elements were sent as. `plan` answers such requests, where there is one. held_bytes: no fewer than it
    keeps from being freed.
    """

    __slots__ = (
        "_between",
        "_end",
        "_head",
        "_input_at",
        "_job",
        "_tail",
        "_target_at",
        "_target_type",
        "held_bytes",
        "new",
        "plan",
    )

    def __init__(self, job: Job, body: bytes, input_at: int, target_at: int, target_dtype: int) -> None:
        target_bytes = 0 if job.target is None else len(job.target.values) * STORAGE[target_dtype].itemsize
        self.plan: Plan | None = None
        self.new = True  # it has not come a second time
        # The body, which the job's numbers are views of, and indices that were widened.
        self.held_bytes = ENTRY_BYTES + len(body) + (0 if job.target is None else job.target.values.nbytes)
        self._job = job
        self._input_at = input_at
        self._target_at = target_at
        self._target_type = target_dtype
        self._end = input_at + job.input.values.nbytes
        self._head = body[:input_at]
        self._between = body[self._end : target_at]
        self._tail = body[target_at + target_bytes :]

    @property
    def key_bytes(self) -> int:
        return len(self._head) + len(self._between) + len(self._tail)

    def is_like(self, body: bytes) -> bool:
        """body: of the same length."""
        return (
            body.startswith(self._head)
            and body[self._end : self._target_at] == self._between
            and body.endswith(self._tail)
        )

    def again(self, body: Body) -> Job:
        """The job with the numbers of `body`."""
        job = self._job
        other = object.__new__(Job)
        fields = other.__dict__
        fields.update(job.__dict__)
        given, target = job.input, job.target
        values = np.frombuffer(body, given.values.dtype, len(given.values), self._input_at)
        fields["input"] = Array(values, given.dtype, given.shape)
        if target is not None:
            numbers = np.frombuffer(body, STORAGE[self._target_type], len(target.values), self._target_at)
            fields["target"] = Array(numbers.astype(target.values.dtype, copy=False), target.dtype, target.shape)
        return other

    def make_plan(self, planner: Planner) -> None:
        self.plan = planner(self._job, self._input_at, self._target_at, self._target_type)
        if self.plan is not None:  # its record, and the answer
            self.held_bytes += PLAN_BYTES + self.plan.response_bytes


class Recall:
    """A memory of requests, by RPC and length, before `check`. Forgets everything when it is full.

    held_bytes: what it keeps from being freed, HELD_BYTES at most.
    """

    def __init__(self, check: Callable[[str, Fields], Job], planner: Planner, capacity: int = CAPACITY) -> None:
        self._check = check
        self._planner = planner
        self._capacity = capacity
        self._seen: dict[tuple[str, int], list[Recalled]] = {}
        self._held = 0
        self.held_bytes = 0

    def find(self, rpc: str, body: bytes) -> Recalled | None:
        """A request like this. It is planned when it is found first: one that never comes again is not worth it."""
        for known in self._seen.get((rpc, len(body)), ()):
            if known.is_like(body):
                if known.new:
                    self._plan(known)
                return known
        return None

    def check(self, rpc: str, request: Any) -> Job:
        """The validated request, recalled or checked and kept. Raises InvalidRequest, NotServed."""
        body = request.SerializeToString()
        known = self.find(rpc, body)
        if known is not None:
            return known.again(body)
        given = fields_of(request)
        job = self._check(rpc, given)
        targeted = rpc in TARGETED and request.HasField("target")
        if len(body) <= RECALLED_BYTES and holds_all(given) and recallable(job, request, targeted):
            known = located(job, body, given, targeted)
            if known is not None and known.key_bytes <= KEY_BYTES:
                self._keep(rpc, len(body), known)
        return job

    def _keep(self, rpc: str, size: int, known: Recalled) -> None:
        if self._held >= self._capacity or self.held_bytes + known.held_bytes > HELD_BYTES:
            self._forget()
        alike = self._seen.setdefault((rpc, size), [])
        if len(alike) >= ALIKE:
            self._held -= len(alike)
            self.held_bytes -= sum(one.held_bytes for one in alike)
            alike.clear()
        alike.append(known)
        self._held += 1
        self.held_bytes += known.held_bytes

    def _plan(self, known: Recalled) -> None:
        known.new = False
        before = known.held_bytes
        known.make_plan(self._planner)
        self.held_bytes += known.held_bytes - before
        if self.held_bytes > HELD_BYTES:
            self._forget()

    def _forget(self) -> None:
        self._seen.clear()
        self._held = self.held_bytes = 0


def holds_all(sent: Fields) -> bool:
    """Whether the request holds all that it speaks of: what lies in shared memory may change, or go."""
    return "placements" not in sent and all(
        value.storage in ("data", "") for value in sent.values() if isinstance(value, WireTensor)
    )


def recallable(job: Job, request: Any, targeted: bool) -> bool:
    """Whether the job's input and target are nothing but the bytes sent (indices may have been widened)."""
    if job.raw or job.input.dtype != request.input.dtype or not viewed(job.input):
        return False
    if job.target is None:
        return not targeted
    if viewed(job.target) and job.target.dtype == request.target.dtype:
        return True
    return request.target.dtype in INTEGERS and job.target.values.dtype == np.int64


def viewed(array: Array) -> bool:
    return isinstance(array.values.base, bytes)


def located(job: Job, body: bytes, given: Fields, targeted: bool) -> Recalled | None:
    """The request with the places of its numbers; None where there are none, or anything else comes before them.

    body: as the generated class writes it, so that no field comes twice, and fields in the order of their numbers.
    """
    x: WireTensor = given["input"]
    head = tensor_header(INPUT, x.dtype, x.shape)
    if not x.data or not body.startswith(head):
        return None
    if not targeted:
        return Recalled(job, body, len(head), len(body), 0)
    y: WireTensor = given["target"]
    between = tensor_header(TARGET, y.dtype, y.shape)
    target_at = len(head) + len(x.data) + len(between)
    if not y.data or not body.startswith(between, target_at - len(between)):
        return None
    return Recalled(job, body, len(head), target_at, y.dtype)
