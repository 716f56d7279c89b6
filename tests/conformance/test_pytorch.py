"""The same arguments to torch.nn.functional: what a PyTorch user sees is the same, errors included."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from lossd_server.backends import Backend
from lossd_server.errors import InvalidRequest
from tests.conformance.agreement import asked_gradients
from tests.conformance.cases import LAYOUTS, Asked, case
from tests.conformance.losses import LOSSES
from tests.conformance.path import answer
from tests.conformance.pytorch import FUNCTIONS, results, tensor

# Four roundings in that dtype of numbers near the logits' size: PyTorch loses digits where a row is confident.
TOLERANCE = {"float32": 2e-6, "float64": 4e-15, "float16": 1.6e-2, "bfloat16": 1.3e-1}
# What PyTorch computes itself, by the options that it has.
COMMON = [
    "cross_entropy index",
    "cross_entropy distribution",
    "bce",
    "bce_with_logits",
    "kl_divergence of probabilities from log_probabilities",
    "kl_divergence of log_probabilities from log_probabilities",
    "nll",
    "softmax",
    "log_softmax",
    "sigmoid",
    "log_sigmoid",
]
OURS = {"base", "normalizer", "row_weight", "z_loss", "softcap", "outputs"}


@pytest.mark.parametrize("loss", COMMON)
def test_ordinary_values(numba: Backend, loss: str) -> None:
    """Loss and gradients have PyTorch's shapes and values, gradients PyTorch's dtypes."""
    of = LOSSES[loss]
    for option, reduction, dtype, shape in product(of.options, of.reductions, TOLERANCE, LAYOUTS.values()):
        asked = case(loss, option, reduction, dtype, shape).asked
        if asked.options.keys() & OURS or "weight" in asked_gradients(asked):
            continue
        theirs = results(asked)
        assert theirs is not None
        result = answer(numba, asked.method, *asked.tensors, **asked.options)
        for name, ours in {"loss": result.loss, **result.grads}.items():
            assert ours.shape == theirs[name].shape
            near = TOLERANCE[dtype] * max(np.abs(theirs[name]).max(initial=0), 1.0)
            difference = f"{name}: {option}, {dtype}"
            np.testing.assert_allclose(ours.astype(np.float64), theirs[name], rtol=0, atol=near, err_msg=difference)


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
    "softmax: no such dim": Asked("softmax", (X,), {"dim": 2}),
    "nll: float target": Asked("nll", (X, np.zeros(4, np.float32))),
    "nll: target of another length": Asked("nll", (X, np.zeros(5, np.int64))),
    "nll: class out of range": Asked("nll", (X, np.array([0, 1, 2, 3]))),
    "nll: weight of another length": Asked("nll", (X, Y), {"weight": np.ones(4, np.float32)}),
    "kl: shapes that do not broadcast": Asked("kl_divergence", (X, np.zeros((4, 2), np.float32))),
    "kl: a target that would broadcast": Asked("kl_divergence", (X, np.zeros((1, 3), np.float32))),
    "bce: target of another shape": Asked("bce", (X, np.zeros((3, 4), np.float32))),
    "bce: target that would broadcast": Asked("bce_with_logits", (X, np.zeros((4, 1), np.float32))),
    "bce: input over 1": Asked("bce", (X + 2, X)),
    "bce: negative input": Asked("bce", (X - 1, X)),
    "bce: target over 1": Asked("bce", (X, X + 2)),
    "bce: weight does not broadcast": Asked("bce", (X, X), {"weight": np.ones(4, np.float32)}),
    "bce: pos_weight does not broadcast": Asked("bce_with_logits", (X, X), {"pos_weight": np.ones(2, np.float32)}),
}


# PyTorch computes BCE of a target outside [0, 1] and broadcasts KLDivergence's target; both are refused on purpose.
OURS_ALONE = {"bce: target over 1", "kl: a target that would broadcast"}


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
