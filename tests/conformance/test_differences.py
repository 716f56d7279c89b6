"""Every gradient of every loss against central differences of the loss itself, in float64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import lossd
from lossd_server.backends import Backend
from tests.conformance.agreement import asked_gradients
from tests.conformance.cases import Asked, case
from tests.conformance.losses import LOSSES
from tests.conformance.path import answer, answers
from tests.conformance.values import Array

SHAPE = (2, 3, 2)
STEPS = (2.0**-13, 2.0**-14)
# Two central differences give one that is off by STEP⁴ fifth derivatives and some 2⁻⁵² / STEP losses.
NEAR = 1e-8
OPERANDS = ("input", "target", "weight")


def moved(asked: Asked, operand: str, step: float) -> Iterator[Asked]:
    """The call with each entry of the operand a step up, then a step down."""
    if operand == "weight":
        whole = asked.options.get("weight", np.ones(SHAPE[1]))
    else:
        whole = asked.tensors[OPERANDS.index(operand)]
    for at in np.ndindex(whole.shape):
        for sign in (1, -1):
            other = whole.copy()
            other[at] += sign * step
            if operand == "weight":
                yield replace(asked, options=asked.options | {"weight": other})
            else:
                tensors = tuple(
                    other if name == operand else t for name, t in zip(OPERANDS, asked.tensors, strict=False)
                )
                yield replace(asked, tensors=tensors)


def weighted(result: lossd.Result, upstream: Any) -> float:
    """Σ upstream·loss."""
    return float(np.sum(result.loss * (1.0 if upstream is None else upstream)))


def differences(backend: Backend, asked: Asked, operand: str) -> Array:
    """d Σ upstream·loss / d operand, flat."""
    alone = replace(asked, options=asked.options | {"grad": None})
    upstream = asked.options.get("grad_output")
    central = []
    for step in STEPS:
        found = [weighted(result, upstream) for result in answers(backend, list(moved(alone, operand, step)))]
        central.append((np.array(found[::2]) - np.array(found[1::2])) / (2 * step))
    extrapolated: Array = (4 * central[1] - central[0]) / 3
    return extrapolated


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_derivatives(numba: Backend, loss: str) -> None:
    """Each gradient is what differences of the loss give, under every option, reduced and not."""
    of = LOSSES[loss]
    compared = 0
    for n, option in enumerate(of.options):
        for reduction in {of.reductions[-1], of.reductions[n % len(of.reductions)]}:
            asked = case(loss, option, reduction, "float64", SHAPE).asked
            result = answer(numba, asked.method, *asked.tensors, **asked.options)
            for operand in asked_gradients(asked):
                expected = differences(numba, asked, operand)
                near = NEAR * max(1.0, float(np.abs(expected).max()))
                actual = result.grads[operand].reshape(-1)
                np.testing.assert_allclose(
                    actual, expected, rtol=0, atol=near, err_msg=f"{operand}: {option} {reduction}"
                )
                compared += 1

    assert compared
