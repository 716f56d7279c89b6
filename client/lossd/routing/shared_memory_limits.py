"""What shared memory cannot carry: copies that a server makes, and answers that are no gradients. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossd.request import tensors
from lossd.routing.block_plan import answer_bytes
from lossd.rpc.server_limits import MessageLimits
from lossd.shared_memory.session import LEAST_BYTES
from lossd.v1 import loss_pb2, tensor_pb2

if TYPE_CHECKING:
    from lossd.request.build import Call

# Used by the server where they lie; integers it copies before it trusts them, 8-bit floats it widens.
_READ_THERE = (
    tensor_pb2.DATA_TYPE_FLOAT16,
    tensor_pb2.DATA_TYPE_BFLOAT16,
    tensors.FLOAT32,
    tensors.FLOAT64,
)


def why_not(call: Call, limits: MessageLimits) -> str | None:
    """Why the server would refuse the call in shared memory, as the end of a sentence; None where it would not."""
    most = limits.max_message_bytes
    if not most:
        return None
    copied = copied_bytes(call)
    if copied > most:
        return f"{copied} bytes of it are no floats that the server uses where they lie, and it copies at most {most}"
    answer = answer_bytes(call) - _placed_bytes(call)
    if answer > most:
        return f"its answer has {answer} bytes beside the gradients, and the server's max_message_bytes is {most}"
    return None


def copied_bytes(call: Call) -> int:
    """Bytes of the tensors that a server copies out of shared memory."""
    double = any(one.dtype == tensors.FLOAT64 for one in call.operands.values())
    counts = call.asked.fields.get("target_kind") == loss_pb2.KIND_COUNTS
    size = 0
    for name, operand in call.operands.items():
        if name == "input" or (name == "target" and not counts):
            there = operand.dtype in _READ_THERE
        else:  # weights are widened, unless they are of the dtype computed in
            weight = name in ("weight", "pos_weight") and operand.dtype == tensors.FLOAT32 and not double
            there = weight or operand.dtype == tensors.FLOAT64
        size += 0 if there else operand.nbytes
    return size


def _placed_bytes(call: Call) -> int:
    """Bytes of the gradients that are written into shared memory: the large ones."""
    sizes = (
        operand.values.size * tensors.item_bytes(tensors.gradient_dtype(operand.dtype))
        for name, operand in call.operands.items()
        if name in call.asked.gradients and name != "weight"
    )
    return sum(size for size in sizes if size >= LEAST_BYTES)
