"""The files: every case of a loss, right and wrong, as a document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf import json_format

from vectors.case import Case, Refusal
from vectors.cases import (
    activation,
    bce,
    cross_entropy,
    cross_entropy_kinds,
    entropy,
    extremes,
    kl_divergence,
    nll,
    refusals,
    refusals_cross_entropy,
    self_information,
)
from vectors.expected import response
from vectors.request import RPCS, message, rpc_of
from vectors.streams import stream
from vectors.text import text

LOSSES = {**RPCS, "activation": "Activation"}


def files() -> dict[str, str]:
    """The text of each file, by its name."""
    right: list[Case] = [
        *activation.CASES,
        *bce.CASES,
        *cross_entropy.CASES,
        *cross_entropy_kinds.CASES,
        *entropy.CASES,
        *extremes.CASES,
        *kl_divergence.CASES,
        *nll.CASES,
        *self_information.CASES,
    ]
    wrong = [*refusals.REFUSALS, *refusals_cross_entropy.REFUSALS]
    found = {}
    for loss, rpc in LOSSES.items():
        cases = [_right(case) for case in right if rpc_of(case.method) == rpc]
        cases += [_wrong(refusal) for refusal in wrong if refusal.rpc == rpc]
        _require_distinct(loss, [case["name"] for case in cases])
        found[f"{loss}.json"] = text({"loss": loss, "rpc": rpc, "cases": cases})
    return found


def _right(case: Case) -> dict[str, Any]:
    request = message(case.method, *case.tensors, **case.options)
    made = {"name": case.name, "request": json_format.MessageToDict(request), "response": response(case)}
    return _streamed(made, stream(rpc_of(case.method), request))


def _wrong(refusal: Refusal) -> dict[str, Any]:
    made = {
        "name": refusal.name,
        "request": json_format.MessageToDict(refusal.request),
        "error": {"code": refusal.code, "reason": refusal.reason, "field": refusal.field},
    }
    return _streamed(made, stream(refusal.rpc, refusal.request) if refusal.value else None)


def _streamed(made: dict[str, Any], how: dict[str, Any] | None) -> dict[str, Any]:
    """How to stream the case stands before its answer."""
    if how is None:
        return made
    return {"name": made.pop("name"), "request": made.pop("request"), "stream": how, **made}


def _require_distinct(loss: str, names: Sequence[str]) -> None:
    for name in names:
        assert names.count(name) == 1, f"{loss} has two cases that are called {name!r}"
