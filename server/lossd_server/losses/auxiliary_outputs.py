"""Auxiliary outputs and terms of a softmax of logits: log-sum-exp, entropy, argmax; z-loss and soft cap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.v1 import loss_pb2 as pb
from lossd_server.errors import InvalidRequest
from lossd_server.jobs.job import Kind
from lossd_server.losses import options
from lossd_server.tensors.request_fields import Fields

INF = float("inf")
OUTPUTS: dict[int, str] = {
    pb.OUTPUT_LSE: "lse",
    pb.OUTPUT_ENTROPY: "entropy",
    pb.OUTPUT_ARGMAX: "argmax",
    pb.OUTPUT_CORRECT: "correct",
}
OPTIONS = frozenset({"z_loss", "softcap", "outputs"})


@dataclass(frozen=True, slots=True)
class AuxiliaryOutputs:
    """As a Job has them."""

    z_loss: float = 0.0
    softcap: float = 0.0
    outputs: frozenset[str] = frozenset()


NOTHING = AuxiliaryOutputs()


def read_outputs(fields: Fields, kind: Kind, by_index: bool, compute: np.dtype[Any]) -> AuxiliaryOutputs:
    """by_index: whether targets are class indices, which alone can be met by an argmax; compute: the kernels' dtype."""
    if OPTIONS.isdisjoint(fields):
        return NOTHING
    if kind is not Kind.LOGITS:
        given = next(option for option in sorted(OPTIONS) if option in fields)
        raise InvalidRequest(
            f"{given} is given with kind {kind.name.lower()}, but it needs kind logits",
            reason="OPTION_NOT_TAKEN",
            field=given,
            metadata={"option": given, "kind": kind.name.lower()},
        )
    softcap = 0.0
    if "softcap" in fields:
        softcap = options.bounded_number(fields, "softcap", 0.0, "(0, inf)", low=0.0, high=INF, open_low=True)
        options.require_representable("softcap", softcap, compute)
    z_loss = options.bounded_number(fields, "z_loss", 0.0, "[0, inf)", low=0.0, high=INF, open_low=False)
    options.require_representable("z_loss", z_loss, compute, least=0.0)
    return AuxiliaryOutputs(
        z_loss=z_loss,
        softcap=softcap,
        outputs=_outputs(fields, by_index),
    )


def _outputs(fields: Fields, by_index: bool) -> frozenset[str]:
    asked = options.repeated(fields, "outputs")
    for position, value in enumerate(asked):
        if value not in OUTPUTS:
            options.name_of(pb.Output, value, f"outputs[{position}]")
        if value == pb.OUTPUT_CORRECT and not by_index:
            raise InvalidRequest(
                "outputs include correct, but a distribution has no single class for the argmax to meet",
                reason="OPTION_NOT_TAKEN",
                field="outputs",
                metadata={"value": "correct"},
            )
    return frozenset(OUTPUTS[value] for value in asked)
