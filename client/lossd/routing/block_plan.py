"""Block plan: how a call falls into items, and items into blocks. What a stream may cut, and what it may not.

An item is one index of dimension 0. Notation as in the contract: N items.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from lossd import contract
from lossd.request import tensors
from lossd.rpc.server_limits import MessageLimits
from lossd.v1 import loss_pb2, tensor_pb2

if TYPE_CHECKING:
    from lossd.request.build import Call

# Tensors up to this size are sent once, with the Open, even where they could be cut.
WHOLE_BYTES = 1 << 20
# Of the larger of a block and its answer: what the server computes without a hand-over, and its second cache holds.
# 0.75 to 2 MiB differ by a tenth; 0.25 and 4 MiB are slower.
BLOCK_BYTES = 5 << 18
# At most what a message has beside tensors and options: tags, lengths, an evaluation's number, summary and timing.
ENVELOPE_BYTES = 192
# At most what a tensor has beside its elements and its shape, and each dimension of that.
_TENSOR_BYTES, _DIMENSION_BYTES = 64, 10
# What a server's own measure of a block may have more than ours.
_BLOCK_MARGIN_BYTES = 1024

_ELEMENTWISE = frozenset({"bce", "bce_with_logits", "self_information", "sigmoid", "log_sigmoid"})
_BY_DIM = frozenset({"entropy", "softmax", "log_softmax"})
_NORMALISED = (loss_pb2.KIND_LOGITS, loss_pb2.KIND_COUNTS)
_OUTPUT_BYTES = {loss_pb2.OUTPUT_ARGMAX: 8, loss_pb2.OUTPUT_CORRECT: 1}


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """A call in blocks of `step` items. streamed: fields whose items come in blocks. answer_bytes: of one item."""

    items: int
    step: int
    streamed: tuple[str, ...]
    answer_bytes: int


def row_axis(call: Call) -> int | None:
    """The dimension along which a row lies; None where every element is computed for itself."""
    method, fields = call.asked.method, call.asked.fields
    if method in _ELEMENTWISE:
        return None
    if method == "kl_divergence" and not {fields.get("kind"), fields.get("target_kind")}.intersection(_NORMALISED):
        return None
    rank = call.operands["input"].values.ndim
    dim = fields.get("dim") if method in _BY_DIM else None
    return contract.class_axis(rank, None if dim is None else int(dim)) if rank else 0


def is_reduced(call: Call) -> bool:
    """Whether the loss is one number. SelfInformation's default is not, an activation's value never."""
    default = loss_pb2.REDUCTION_NONE if call.rpc in ("SelfInformation", "Activation") else loss_pb2.REDUCTION_MEAN
    return bool(call.asked.fields.get("reduction", default) != loss_pb2.REDUCTION_NONE)


def answer_item_bytes(call: Call) -> int:
    """Bytes of what comes back for one item: gradients, losses that are not reduced, by-products."""
    given = call.operands["input"]
    elements = prod(given.shape[1:])
    size = 0
    for name in call.asked.gradients:
        operand = call.operands.get(name)
        if operand is not None and (name != "weight"):
            size += prod(operand.shape[1:]) * tensors.item_bytes(contract.gradient_dtype(operand.dtype))
    axis = row_axis(call)
    losses = elements
    if axis is not None and call.asked.method != "kl_divergence" and call.rpc != "Activation":
        losses = elements // max(1, given.shape[axis]) if axis else 1
    wide = 8 if any(one.dtype == tensors.FLOAT64 for one in call.operands.values()) else 4
    if not is_reduced(call):
        size += losses * (tensors.item_bytes(given.dtype) if call.rpc == "Activation" else wide)
    return size + sum(losses * _OUTPUT_BYTES.get(output, wide) for output in call.asked.fields.get("outputs", ()))


def _header_bytes(rank: int, tensors: int) -> int:
    """At most the bytes of a message with `tensors` of that rank beside their elements and the options."""
    return ENVELOPE_BYTES + tensors * (_TENSOR_BYTES + _DIMENSION_BYTES * rank)


def request_bytes(call: Call) -> int:
    """At least the bytes of the request as one message."""
    rank = max((operand.values.ndim for operand in call.operands.values()), default=0)
    headers = _header_bytes(rank, len(call.operands))
    return headers + len(call.asked.encoded) + len(call.placements) + call.nbytes


def answer_bytes(call: Call) -> int:
    """At least the bytes of the whole answer."""
    shape = call.operands["input"].shape
    return _last_answer_bytes(call) + answer_item_bytes(call) * (shape[0] if shape else 1)


def _last_answer_bytes(call: Call) -> int:
    """The same of what does not come item by item: the gradient of class weights, and what every answer has."""
    shape = call.operands["input"].shape
    weights = 8 * (shape[1] if len(shape) > 1 else prod(shape)) if "weight" in call.asked.gradients else 0
    return weights + _answer_header_bytes(call)


def _answer_header_bytes(call: Call) -> int:
    fields = call.asked.fields
    return _header_bytes(
        call.operands["input"].values.ndim, 1 + len(call.asked.gradients) + len(fields.get("outputs", ()))
    )


def plan_blocks(call: Call, limits: MessageLimits) -> BlockPlan | str:
    """How the call can be streamed, or, as the end of a sentence, why it cannot."""
    given = call.operands["input"]
    if not given.shape:
        return "input is a scalar"
    if not limits.max_item_bytes:
        return "this server has no Stream"
    axis = row_axis(call)
    if axis == 0:
        return "input is one row, and only whole rows are sent"
    items = given.shape[0]
    if not given.values.size:
        return "input is empty"
    most_whole = min(WHOLE_BYTES, (limits.max_message_bytes or WHOLE_BYTES) // 8)
    streamed = tuple(name for name in call.operands if name == "input" or _is_cut(call, name, axis is None, most_whole))
    request = sum(call.operands[name].nbytes // items for name in streamed)
    if request > limits.max_item_bytes:
        return (
            f"an item (one index of dimension 0) has {request} bytes, and the server's max_item_bytes is "
            f"{limits.max_item_bytes}: only shared memory, on the server's own host, has no such bound"
        )
    grain = 1
    if axis is None:
        grain = max(1, -(-limits.elementwise_granularity // prod(given.shape[1:])))
    answer = answer_item_bytes(call)
    least = min(grain, items)
    most_request = limits.max_message_bytes - _header_bytes(len(given.shape), len(streamed)) - _BLOCK_MARGIN_BYTES
    most_answer = limits.answer_bytes - _answer_header_bytes(call)
    whole = request_bytes(call) - sum(call.operands[name].nbytes for name in streamed)
    if whole > limits.max_message_bytes:
        return (
            f"what goes with every item has {whole} bytes, and the server's max_message_bytes is "
            f"{limits.max_message_bytes}"
        )
    if least * request > most_request:
        return (
            f"{least} items (indices of dimension 0) have {least * request} bytes, and the server's max_message_bytes "
            f"is {limits.max_message_bytes}"
        )
    if max(least * answer + _answer_header_bytes(call), _last_answer_bytes(call)) > limits.answer_bytes:
        needed, bound = max(least * answer, _last_answer_bytes(call)), limits.answer_bound
        return f"{least} items (indices of dimension 0) have answers of {needed} bytes, and {bound} in a message"
    step = max(grain, min(_of(request, most_request), _of(answer, most_answer)) // grain * grain)
    return BlockPlan(items, step, streamed, answer)


def _of(item_bytes: int, most: int) -> int:
    """Items of so many bytes in a block."""
    return min(BLOCK_BYTES, most) // max(item_bytes, 1)


def _is_cut(call: Call, name: str, elementwise: bool, most_whole: int) -> bool:
    """Whether a tensor beside the input goes in blocks: it has the input's items, and is large or has a gradient."""
    operand, shape = call.operands[name], call.operands["input"].shape
    if not operand.shape or operand.shape[0] != shape[0]:
        return False
    if name in ("weight", "pos_weight"):
        aligned = elementwise and len(operand.shape) == len(shape)
    elif name == "grad_output":
        aligned = not is_reduced(call)
    else:
        aligned = name in ("target", "row_weight")
    return aligned and (operand.nbytes > most_whole or name in call.asked.gradients)


def is_index_target(call: Call) -> bool:
    """Whether the target is class indices."""
    if call.asked.method == "nll":
        return True
    if call.asked.method != "cross_entropy":
        return False
    kind = call.asked.fields.get("target_kind")
    if kind is None:
        return call.operands["target"].dtype < tensor_pb2.DATA_TYPE_FLOAT8_E4M3FN
    return bool(kind == loss_pb2.KIND_INDICES)
