"""The right answers: those of a server that nobody disturbs, compared with float64, and asked for by every way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

import lossd
from chaos.load import Draw, called
from chaos.operations import ACTIVATIONS, LOSSES, Operation, digest
from chaos.routes import LARGE_WAYS, Route
from lossd.bench import float64

# Relative to the largest entry: what 16 bits may cost. A wrong formula, row or denominator is off by far more.
CLOSE = 0.02
PLAIN_OPTIONS = {"reduction", "grad"}


class Untrue(Exception):
    """Answers that differ before anything was disturbed."""


def expected(client: lossd.Client, table: Iterable[Operation], route: Route) -> tuple[str, ...]:
    """The digest of each operation's answer. Raises Untrue where float64 says something else."""
    found = []
    for one in table:
        answer = called(client, Draw(route, (one,), "auto"))
        fault = off(one, answer)
        if fault:
            raise Untrue(f"{one}: {fault}")
        found.append(digest(answer))
    return tuple(found)


def impossible(
    client: lossd.Client, table: Iterable[Operation], route: Route, right: tuple[str, ...]
) -> frozenset[tuple[int, str]]:
    """Numbers and ways that there are none for. Raises Untrue where two ways have different bytes."""
    found = set()
    for one in table:
        for way in ("small",) if one.is_small else LARGE_WAYS:
            if way == "shared_memory" and not route.shared:
                continue
            try:
                answer = called(client, Draw(route, (one,), way))
            except lossd.InvalidArgument as error:
                if error.reason not in ("TRANSPORT_NOT_POSSIBLE", "MESSAGE_TOO_LARGE"):
                    raise
                found.add((one.number, str(way)))
                continue
            if digest(answer) != right[one.number]:
                raise Untrue(f"{one} has other bytes by {way} over {route.name}")
    return frozenset(found)


def off(operation: Operation, answer: Any) -> str:
    """ "" where the answer is close to float64's closed form, or there is none for its options."""
    if operation.method in ACTIVATIONS or operation.method not in LOSSES or set(operation.options) - PLAIN_OPTIONS:
        return ""
    target = operation.operands[1] if len(operation.operands) > 1 else None
    loss, gradient = float64.closed_form(
        operation.method, operation.operands[0], target, operation.options["reduction"]
    )
    pairs = [("loss", answer.loss, loss)]
    if operation.options["grad"]:
        pairs.append(("gradient", answer.grad, gradient))
    for name, actual, right in pairs:
        error = float(np.abs(np.asarray(actual, np.float64) - right).max())
        if error > CLOSE * float(np.abs(right).max()) + 1e-6:
            return f"its {name} is off by {error:.3g}"
    return ""
