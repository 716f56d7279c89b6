"""Open of a streamed evaluation: checked once, before the first block. Each block is made a Job. Pure.

Nothing is checked by other rules than a unary request: an Open is checked with its streamed tensors hollow, and a
block as the request of its own items, made of the block's tensors and the same items of those that the Open holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from lossd.v1 import service_pb2 as messages
from lossd_server import losses
from lossd_server.engine.evaluate import carry_of_parts, scaled_by_denominator
from lossd_server.errors import InvalidRequest, ServerError, invalid
from lossd_server.jobs.job import Job, Reduction
from lossd_server.jobs.partial_results import Carry, UnknownCarry
from lossd_server.jobs.reduction import BY_CLASS, BY_ELEMENT
from lossd_server.jobs.slicing import granularity
from lossd_server.losses.operands import dtype_name
from lossd_server.tensors.array import STORAGE
from lossd_server.tensors.request_fields import Fields, WireTensor

# The request's field in Open: the RPC that takes it, its number (the response's in EvaluationResult).
REQUESTS: Mapping[str, tuple[str, int]] = {
    field.name: (field.message_type.name.removesuffix("Request"), field.number)
    for field in messages.Open.DESCRIPTOR.fields
    if field.message_type is not None
}
# Losses whose weight is one number a class and has no items.
CLASS_WEIGHTED = frozenset({"CrossEntropy", "NLL"})
# Rows whose denominator is found at once, in some 20 µs; of more it is found where the first block is computed.
WEIGHED_AT_ONCE = 1 << 14
# Of a block beside its elements: ids, shapes, tags.
BLOCK_OVERHEAD_BYTES = 1024


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """What the Open of an evaluation says. streamed: by name, as declared. template: the Job of the whole, without the
    streamed elements. start: what the first block's part starts from."""

    rpc: str
    fields: Fields
    streamed: dict[str, WireTensor]
    template: Job
    items: int
    granularity: int
    start: Carry | UnknownCarry

    def block(self, first: int, fields: Fields) -> Job:
        """The Job of the block whose tensors are `fields` and whose first item is `first`.

        Raises InvalidRequest, with indices that count from the block's own first item.
        """
        count = self._count(first, fields)
        own: Fields = {}
        for name, value in self.fields.items():
            if name in self.streamed:
                own[name] = fields[name]
            else:
                own[name] = self._cut(name, value, first, count) if isinstance(value, WireTensor) else value
        return losses.check(self.rpc, own)

    def _count(self, first: int, fields: Fields) -> int:
        """How many items the block holds: every streamed tensor, and no other, of its declared dtype and shape."""
        for name in fields:
            if name not in self.streamed:
                raise invalid(
                    f"the block holds {name}, which its evaluation was opened without streaming; it streams"
                    f" {', '.join(self.streamed)}",
                    "NOT_STREAMED",
                    name,
                    tensor=name,
                    streamed=list(self.streamed),
                )
        count = -1
        for name, declared in self.streamed.items():
            given = fields.get(name)
            if given is None:
                raise invalid(f"the block lacks {name}, which is streamed", "MISSING_FIELD", name, tensor=name)
            if given.storage not in ("data", ""):
                raise invalid(
                    f"the block's {name} is {given.storage.replace('_', ' ')}, but a block holds its elements itself",
                    "BLOCK_NOT_HERE",
                    name,
                    storage=given.storage,
                )
            if given.dtype != declared.dtype or not given.shape or given.shape[1:] != declared.shape[1:]:
                raise _mismatch(name, given, declared)
            if count >= 0 and given.shape[0] != count:
                raise invalid(
                    f"the block's {name} has {given.shape[0]} items, but its {next(iter(self.streamed))} has {count}",
                    "BLOCK_MISMATCH",
                    name,
                    items=given.shape[0],
                    expected=count,
                )
            count = given.shape[0]
        if count <= 0:
            some = next(iter(self.streamed))
            raise invalid(
                f"the block's {some} has shape {list(fields[some].shape)}, but a block holds at least 1 item",
                "BLOCK_EMPTY",
                some,
                items=count,
                shape=list(fields[some].shape),
            )
        if first + count > self.items:
            raise invalid(
                f"the block has {count} items from item {first} on, but the evaluation was opened with {self.items}",
                "TOO_MANY_ITEMS",
                "",
                first_item=first,
                items=count,
                declared=self.items,
            )
        if first + count < self.items and count % self.granularity:
            raise invalid(
                f"the block has {count} items, but all blocks save the last have a multiple of {self.granularity}"
                " items",
                "BLOCK_NOT_A_MULTIPLE",
                "",
                items=count,
                granularity=self.granularity,
            )
        return count

    def _cut(self, name: str, whole: WireTensor, first: int, count: int) -> WireTensor:
        """Those of the items of a tensor that the Open holds; all of one that has none, or broadcasts over them."""
        shape = whole.shape
        if name == "weight" and self.rpc in CLASS_WEIGHTED:
            return whole
        if name in ("weight", "pos_weight") and (len(shape) < len(self.template.input.shape) or shape[0] == 1):
            return whole
        if not shape:  # the upstream gradient of a scalar
            return whole
        each = prod(shape[1:]) * STORAGE[whole.dtype].itemsize
        data = memoryview(whole.data)[first * each : (first + count) * each]
        return replace(whole, shape=(count, *shape[1:]), data=data)


def _mismatch(name: str, given: WireTensor, declared: WireTensor) -> InvalidRequest:
    """A block's tensor that is not of the dtype and shape that its Open declared."""
    items = ", ".join(["items", *map(str, declared.shape[1:])])
    return invalid(
        f"the block's {name} is {dtype_name(given.dtype)} of shape {list(given.shape)}, but {name} was opened as"
        f" {dtype_name(declared.dtype)} of shape {list(declared.shape)}: its blocks have shape [{items}]",
        "BLOCK_MISMATCH",
        name,
        shape=list(given.shape),
        dtype=dtype_name(given.dtype),
        declared=list(declared.shape),
        declared_dtype=dtype_name(declared.dtype),
    )


def request_of(one: messages.Open) -> tuple[str, int, Any]:
    """(RPC, field number, request) of what an Open asks for. Raises InvalidRequest."""
    name = one.WhichOneof("request")
    if name is None:
        raise invalid(
            f"the evaluation is opened without a request: it needs one of {', '.join(REQUESTS)}",
            "MISSING_FIELD",
            "request",
        )
    return *REQUESTS[name], getattr(one, name)


def open_request(rpc: str, fields: Fields, max_item_bytes: int) -> OpenRequest:
    """The checked Open of an evaluation, `fields` being those of its request; tensors in shared memory are resolved.

    Raises InvalidRequest and NotServed, as a unary call would, and where the evaluation cannot be streamed.
    """
    streamed = {
        name: value for name, value in fields.items() if isinstance(value, WireTensor) and value.storage == "streamed"
    }
    if "placements" in fields:
        raise invalid("placements are not taken where tensors are streamed", "OPTION_NOT_TAKEN", "placements")
    if rpc in CLASS_WEIGHTED and "weight" in streamed:
        raise invalid("weight is streamed, but it has one entry a class and no items", "NOT_STREAMABLE", "weight")
    hollow = {name: replace(value, storage="hollow") for name, value in streamed.items()}
    template = losses.check(rpc, {**fields, **hollow})
    shape = template.input.shape
    if not shape or (not template.formula.elementwise and (len(shape) == 1 or template.layout.outer == 1 != shape[0])):
        raise invalid(
            f"input of shape {list(shape)} is one item: it is sent whole, in its Open", "ONE_ITEM", "input", shape=shape
        )
    for name, one in streamed.items():
        if one.shape[:1] != shape[:1]:
            raise invalid(
                f"{name} of shape {list(one.shape)} is streamed, but its dimension 0 is not the input's, {shape[0]}",
                "NOT_STREAMABLE",
                name,
                shape=list(one.shape),
                items=shape[0],
            )
    step = granularity(template)
    size = sum(prod(one.shape[1:]) * STORAGE[one.dtype].itemsize for one in streamed.values()) * min(step, shape[0])
    if size > max_item_bytes - BLOCK_OVERHEAD_BYTES:
        raise invalid(
            f"the smallest block, of {step} item{'s' * (step > 1)}, has {size} bytes, but one message takes"
            f" {max_item_bytes - BLOCK_OVERHEAD_BYTES} of them: shared memory has no such bound",
            "ITEM_TOO_LARGE",
            "input",
            size_bytes=size,
            max_item_bytes=max_item_bytes - BLOCK_OVERHEAD_BYTES,
        )
    _require_denominator(template, streamed)
    many = scaled_by_denominator(template) and template.layout.rows > WEIGHED_AT_ONCE
    start = UnknownCarry(template) if many else carry_of_parts(template)
    if isinstance(start, ServerError):
        raise start
    return OpenRequest(rpc, fields, streamed, template, shape[0], step, start)


def _require_denominator(job: Job, streamed: dict[str, WireTensor]) -> None:
    """Gradients of a mean are divided by it from the first block on."""
    reducing = job.reducing
    graded = job.input_gradient or job.target_gradient or job.weight_gradient
    if not graded or reducing.reduction is not Reduction.MEAN or reducing.normalizer is not None:
        return
    if job.formula in BY_ELEMENT:
        return
    unknown = [name for name in ("target", "row_weight") if name in streamed]
    if job.formula not in BY_CLASS:
        unknown = [name for name in unknown if name == "row_weight"]
    if unknown:
        raise invalid(
            f"the gradient of a mean is asked for, but its denominator follows from {unknown[0]}, which is streamed:"
            " give it as normalizer",
            "DENOMINATOR_UNKNOWN",
            "normalizer",
            streamed=unknown[0],
        )
