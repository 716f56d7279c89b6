"""The table of losses: what each accepts, checked into a Job before anything is computed."""

from __future__ import annotations

from collections.abc import Callable

from google.protobuf.message import Message

from lossd_server.job import Job
from lossd_server.losses import (
    activation,
    bce,
    bce_with_logits,
    cross_entropy,
    entropy,
    kl_divergence,
    nll,
    self_information,
)

SERVED: dict[str, Callable[[Message], Job]] = {
    "Entropy": entropy.check,
    "CrossEntropy": cross_entropy.check,
    "BCE": bce.check,
    "BCEWithLogits": bce_with_logits.check,
    "KLDivergence": kl_divergence.check,
    "NLL": nll.check,
    "SelfInformation": self_information.check,
    "Activation": activation.check,
}


def check(rpc: str, request: Message) -> Job:
    """The validated request. Every shape, length, dtype and option is checked here, values where they are used.

    rpc: a unary RPC of the losses, by name. Raises InvalidRequest, naming field, value and bound, or NotServed.
    """
    return SERVED[rpc](request)
