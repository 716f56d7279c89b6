"""Every formula with every kind, option and reduction: the engine's answers are those of the plain formulas."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from lossd_server.backends import Backend
from lossd_server.engine.evaluate import evaluate
from lossd_server.jobs.job import Answer
from tests.losses.checked import check
from tests.losses.jobs import answer, close
from tests.losses.messages import tensor
from tests.losses.requests import activation, cross_entropy, entropy, kl_divergence, nll, rpc, self_information

LOGITS, LOG_PROBABILITIES, PROBABILITIES, COUNTS = 1, 2, 3, 4
NONE, MEAN, SUM, BATCHMEAN = 1, 2, 3, 4
# One row, few rows, rows along the middle, and more classes than a vector has lanes.
SHAPES = [(5,), (4, 3), (3, 4, 5), (2, 37)]


def numbers(shape: tuple[int, ...], kind: int, seed: int) -> Any:
    random = np.random.default_rng(seed)
    if kind == COUNTS:
        return random.integers(1, 9, shape)
    logits = random.normal(size=shape)
    if kind == LOGITS:
        return logits
    axis = min(1, len(shape) - 1)
    p = np.exp(logits) / np.exp(logits).sum(axis, keepdims=True)
    return p if kind == PROBABILITIES else np.log(p)


def agree(numba: Backend, request: Any, dtype: str) -> None:
    """In float64 to a few last places; in float32 to what its own rounding allows."""
    rtol, atol = (1e-11, 1e-13) if dtype == "float64" else (2e-4, 2e-6)
    job = check(rpc(request), request)
    (found,) = evaluate(numba, [job])
    truth = answer(job)

    assert isinstance(found, Answer), found
    close(found.loss, truth.loss, rtol, atol)
    for name in ("input_gradient", "target_gradient", "weight_gradient"):
        expected = getattr(truth, name)
        if expected is None:
            assert getattr(found, name) is None
        else:
            close(getattr(found, name), expected, rtol, atol)
    assert set(found.outputs) == job.outputs
    for name, values in found.outputs.items():
        close(values, truth.outputs[name], rtol, atol)
    if truth.summary is not None:
        assert found.summary is not None
        close(found.summary.loss_sum, truth.summary.loss_sum, rtol, atol)
        assert (found.summary.weight_sum, found.summary.count) == (truth.summary.weight_sum, truth.summary.count)


def upstream(shape: tuple[int, ...], dtype: str) -> Any:
    return tensor(np.random.default_rng(9).normal(size=shape), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("target_kind", [LOGITS, LOG_PROBABILITIES, PROBABILITIES, COUNTS])
@pytest.mark.parametrize("kind", [LOGITS, LOG_PROBABILITIES, PROBABILITIES, COUNTS])
def test_divergences(numba: Backend, kind: int, target_kind: int, shape: tuple[int, ...], dtype: str) -> None:
    """Each kind against each, in bits and nats, with an upstream gradient for every element."""
    sides = {"input": tensor(numbers(shape, kind, 1), dtype), "target": tensor(numbers(shape, target_kind, 2), dtype)}
    gradients = [1] if target_kind == COUNTS else [1, 2]
    for reduction, base in product((NONE, MEAN, SUM, BATCHMEAN), (None, 2.0)):
        given = upstream(shape if reduction == NONE else (), dtype)
        fields = {"kind": kind, "target_kind": target_kind, "reduction": reduction, "base": base}
        agree(numba, kl_divergence(**sides, **fields, gradients=gradients, grad_output=given), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", [LOGITS, LOG_PROBABILITIES, PROBABILITIES, COUNTS])
@pytest.mark.parametrize("target_kind", [0, PROBABILITIES, COUNTS])
def test_cross_entropies(numba: Backend, kind: int, target_kind: int, shape: tuple[int, ...], dtype: str) -> None:
    """Weights, smoothing, row weights, ignored rows; for logits the penalty, the cap and the by-products too."""
    axis = min(1, len(shape) - 1)
    rows = shape[:axis] + shape[axis + 1 :]
    fields: dict[str, Any] = {"input": tensor(numbers(shape, kind, 1), dtype), "kind": kind}
    if target_kind:
        fields |= {"target": tensor(numbers(shape, target_kind, 2), dtype), "target_kind": target_kind}
    else:
        fields["target"] = tensor(np.random.default_rng(3).integers(0, shape[axis], rows), "int64")
        fields["ignore_index"] = 1
    weights = {
        "weight": tensor(np.random.default_rng(4).random(shape[axis]), dtype),
        "row_weight": tensor(np.random.default_rng(5).random(rows), dtype),
        "label_smoothing": 0.1,
    }
    penalties: dict[str, Any] = {"z_loss": 0.01, "softcap": 2.0, "outputs": [1, 2, 3] if target_kind else [1, 2, 3, 4]}
    gradients = {0: [1], PROBABILITIES: [1, 2, 3], COUNTS: [1, 3]}[target_kind]
    for reduction, weighted, penalised in product((NONE, MEAN, SUM), (False, True), (False, True)):
        options = dict(weights) if weighted else {}
        if penalised and kind == LOGITS:
            options |= penalties
        given = upstream(rows if reduction == NONE else (), dtype)
        options |= {"reduction": reduction, "grad_output": given, "gradients": gradients, "base": 3.0}
        agree(numba, cross_entropy(**fields, **options), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_losses_of_rows_and_elements(numba: Backend, shape: tuple[int, ...], dtype: str) -> None:
    """NLL, Entropy with row weights, SelfInformation."""
    axis = min(1, len(shape) - 1)
    rows = shape[:axis] + shape[axis + 1 :]
    label = tensor(np.random.default_rng(3).integers(0, shape[axis], rows), "int64")
    weight = tensor(np.random.default_rng(4).random(shape[axis]), dtype)
    u, p = (tensor(numbers(shape, kind, 1), dtype) for kind in (LOG_PROBABILITIES, PROBABILITIES))
    for reduction in (NONE, MEAN, SUM):
        by_row = {"reduction": reduction, "gradients": [1], "grad_output": upstream(rows, dtype)}
        by_element = {**by_row, "grad_output": upstream(shape, dtype)}
        if reduction != NONE:
            by_row["grad_output"] = by_element["grad_output"] = upstream((), dtype)
        agree(numba, nll(input=u, target=label, weight=weight, ignore_index=1, **by_row), dtype)
        agree(numba, self_information(input=p, base=2.0, **by_element), dtype)
        for kind in (LOGITS, PROBABILITIES, COUNTS):
            x = tensor(numbers(shape, kind, 1), dtype)
            row_weight = tensor(np.random.default_rng(5).random(rows), dtype)
            agree(numba, entropy(input=x, kind=kind, row_weight=row_weight, **by_row), dtype)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), *SHAPES])
@pytest.mark.parametrize("function", [1, 2, 3, 4])
def test_activations(numba: Backend, function: int, shape: tuple[int, ...], dtype: str) -> None:
    """Values and gradients, with an upstream gradient and without, along each dimension."""
    x = tensor(numbers(shape, LOGITS, 1), dtype)
    for dim in [None, *range(len(shape))] if function < 3 else [None]:
        for given in (None, upstream(shape, dtype)):
            request = activation(input=x, function=function, dim=dim, grad_output=given, gradients=[1])
            if dtype != "float16":
                agree(numba, request, dtype)
                continue
            job = check("Activation", request)
            (found,) = evaluate(numba, [job])
            assert isinstance(found, Answer)
            truth = answer(job)
            close(found.loss.view("<f2"), truth.loss.view("<f2"), 1e-3)
            assert found.input_gradient is not None
            assert truth.input_gradient is not None
            close(found.input_gradient.view("<f2"), truth.input_gradient.view("<f2"), 2e-3, 1e-6)
