"""Limits of shared memory: copies that a server makes, and answers that are no gradients. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossd import contract
from lossd.request import tensors
from lossd.routing.block_plan import answer_bytes
from lossd.rpc.server_limits import MessageLimits
from lossd.shared_memory.session import LEAST_BYTES
from lossd.v1 import loss_pb2

if TYPE_CHECKING:
    from lossd.request.build import Call


def why_not(call: Call, limits: MessageLimits) -> str | None:
    """Why the server would refuse the call in shared memory, as the end of a sentence; None where it would not."""
    most = limits.max_message_bytes
    if not most:
        return None
    copied = copied_there(call)
    if copied > most:
        return f"{copied} bytes of it are no floats that the server uses where they lie, and it copies at most {most}"
    answer = answer_bytes(call) - _placed_bytes(call)
    if answer > limits.answer_bytes:
        return f"its answer has {answer} bytes beside the gradients, and {limits.answer_bound} in a message"
    return None


def copied_there(call: Call) -> int:
    """Bytes of the call's tensors that a server copies out of shared memory."""
    operands = ((name, one.dtype, one.nbytes) for name, one in call.operands.items())
    return contract.copied_bytes(operands, call.asked.fields.get("target_kind") == loss_pb2.KIND_COUNTS)


def _placed_bytes(call: Call) -> int:
    """Bytes of the gradients that are written into shared memory: the large ones."""
    sizes = (
        operand.values.size * tensors.item_bytes(contract.gradient_dtype(operand.dtype))
        for name, operand in call.operands.items()
        if name in call.asked.gradients and name != "weight"
    )
    return sum(size for size in sizes if size >= LEAST_BYTES)
