"""The table of losses: what each accepts, checked into a Job before anything is computed."""

from __future__ import annotations

from collections.abc import Callable

from lossd_server.jobs.job import Job
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
from lossd_server.tensors.request_fields import Fields

SERVED: dict[str, Callable[[Fields], Job]] = {
    "Entropy": entropy.check,
    "CrossEntropy": cross_entropy.check,
    "BCE": bce.check,
    "BCEWithLogits": bce_with_logits.check,
    "KLDivergence": kl_divergence.check,
    "NLL": nll.check,
    "SelfInformation": self_information.check,
    "Activation": activation.check,
}


def check(rpc: str, fields: Fields) -> Job:
    """The validated request. Every shape, length, dtype and option is checked here, values where they are used.

    rpc: a unary RPC of the losses, by name; fields: its request's (`lossd_server.tensors.request_fields`). Raises
    InvalidRequest, naming field, value and bound, or NotServed.
    """
    return SERVED[rpc](fields)
