"""The table of losses: what each accepts, checked into a Job before anything is computed."""

from __future__ import annotations

from collections.abc import Callable

from google.protobuf.message import Message

from lossd_server.errors import NotServed
from lossd_server.job import Job
from lossd_server.losses import bce, bce_with_logits, cross_entropy, entropy

SERVED: dict[str, Callable[[Message], Job]] = {
    "Entropy": entropy.check,
    "CrossEntropy": cross_entropy.check,
    "BCE": bce.check,
    "BCEWithLogits": bce_with_logits.check,
}
# In the contract, and not in this server yet. Emptied as they come.
LATER = frozenset({"KLDivergence", "NLL", "SelfInformation", "Activation"})


def check(rpc: str, request: Message) -> Job:
    """The validated request. Every shape, length, dtype and option is checked here, values where they are used.

    rpc: a unary RPC of the losses, by name. Raises InvalidRequest, naming field, value and bound, or NotServed.
    """
    loss = SERVED.get(rpc)
    if loss is None:
        raise NotServed(f"{rpc} is not served by this server", reason="NOT_SERVED", metadata={"rpc": rpc})
    return loss(request)
