"""The same arguments to torch.nn.functional: what a PyTorch user sees is the same, errors included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lossd_server.backends import Backend
from lossd_server.errors import InvalidRequest
from tests.conformance.cases import LAYOUTS, LOSSES, REDUCTIONS, Asked, Case, case
from tests.conformance.path import answer
from tests.conformance.pytorch import FUNCTIONS, results, tensor

# Four roundings in that dtype of numbers near the logits' size: PyTorch loses digits where a row is confident.
TOLERANCE = {"float32": 2e-6, "float64": 4e-15, "float16": 1.6e-2, "bfloat16": 1.3e-1}
COMMON = [
    case(loss, option, reduction, dtype, shape)
    for loss, (*_, table) in LOSSES.items()
    for option in table
    for reduction in REDUCTIONS
    for dtype in TOLERANCE
    for shape in LAYOUTS.values()
]


@pytest.mark.parametrize("case", COMMON, ids=str)
def test_ordinary_values(numba: Backend, case: Case) -> None:
    """Loss and gradients have PyTorch's shapes and values, gradients PyTorch's dtypes."""
    theirs = results(case.asked)
    if theirs is None:
        pytest.skip("PyTorch does not compute this dtype on the CPU")
    result = answer(numba, case.asked.method, *case.asked.tensors, **case.asked.options)

    dtype = case.name.split(", ")[-2]
    for name, ours in {"loss": result.loss, **result.grads}.items():
        assert ours.shape == theirs[name].shape
        near = TOLERANCE[dtype] * max(np.abs(theirs[name]).max(initial=0), 1.0)
        np.testing.assert_allclose(ours.astype(np.float64), theirs[name], rtol=0, atol=near)


X = np.zeros((4, 3), np.float32)
Y = np.zeros(4, np.int64)
BAD: dict[str, Asked] = {
    "target of another length": Asked("cross_entropy", (X, np.zeros(5, np.int64))),
    "target with a dimension too many": Asked("cross_entropy", (X, np.zeros((4, 1), np.int64))),
    "integer target of the input's shape": Asked("cross_entropy", (X, np.zeros((4, 3), np.int64))),
    "float target of the rows' shape": Asked("cross_entropy", (X, np.zeros(4, np.float32))),
    "class out of range": Asked("cross_entropy", (X, np.array([0, 1, 2, 3]))),
    "negative class": Asked("cross_entropy", (X, np.array([0, 1, 2, -1]))),
    "weight of another length": Asked("cross_entropy", (X, Y), {"weight": np.ones(4, np.float32)}),
    "weight of two dimensions": Asked("cross_entropy", (X, Y), {"weight": np.ones((1, 3), np.float32)}),
    "label smoothing over 1": Asked("cross_entropy", (X, Y), {"label_smoothing": 1.5}),
    "N-D target transposed": Asked(
        "cross_entropy", (np.zeros((2, 3, 4, 5), np.float32), np.zeros((2, 5, 4), np.int64))
    ),
    "bce: target of another shape": Asked("bce", (X, np.zeros((3, 4), np.float32))),
    "bce: target that would broadcast": Asked("bce_with_logits", (X, np.zeros((4, 1), np.float32))),
    "bce: input over 1": Asked("bce", (X + 2, X)),
    "bce: negative input": Asked("bce", (X - 1, X)),
    "bce: target over 1": Asked("bce", (X, X + 2)),
    "bce: weight does not broadcast": Asked("bce", (X, X), {"weight": np.ones(4, np.float32)}),
    "bce: pos_weight does not broadcast": Asked("bce_with_logits", (X, X), {"pos_weight": np.ones(2, np.float32)}),
}


# PyTorch computes BCE of a target outside [0, 1]; the server refuses it on purpose.
OURS_ALONE = {"bce: target over 1"}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments(numba: Backend, name: str) -> None:
    """What PyTorch refuses, the server refuses, naming the field."""
    asked = BAD[name]
    if name not in OURS_ALONE:
        arguments: dict[str, Any] = {k: tensor(v) if isinstance(v, np.ndarray) else v for k, v in asked.options.items()}
        with pytest.raises((RuntimeError, ValueError, IndexError)):
            FUNCTIONS[asked.method](*(tensor(t) for t in asked.tensors), **arguments)

    with pytest.raises(InvalidRequest) as refused:
        answer(numba, asked.method, *asked.tensors, **asked.options)
    assert refused.value.field


def test_one_dimension_and_a_target_of_length_one(numba: Backend) -> None:
    """A 1-D input takes a scalar target, and one of shape (1,) as well."""
    x = np.arange(3, dtype=np.float32)
    scalar = answer(numba, "cross_entropy", x, np.array(2), reduction="none")

    assert scalar.loss.shape == torch.nn.functional.cross_entropy(tensor(x), torch.tensor(2), reduction="none").shape
    assert float(answer(numba, "cross_entropy", x, np.array([2]))) == float(scalar)
