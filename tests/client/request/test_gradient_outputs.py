"""Arrays of the caller's that gradients are written into."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import lossd
from lossd.request.build import build

X = np.linspace(0.1, 0.9, 6, dtype=np.float32).reshape(2, 3)
WAYS = ("unary", "stream", "shared_memory")


@pytest.fixture(scope="module")
def client() -> Iterator[lossd.Client]:
    with lossd.Client("embedded") as client:
        yield client


@pytest.mark.parametrize("way", WAYS)
def test_a_gradient_is_written_where_it_was_asked_to_be(client: lossd.Client, way: Any) -> None:
    """And the result has that very array."""
    out = np.empty_like(X)

    result = client.bce(X, X, grad=True, out=out, transport=way)

    assert result.grad is out
    assert out.tobytes() == client.bce(X, X, grad=True).grad.tobytes()


@pytest.mark.parametrize("way", WAYS)
def test_several_gradients_have_places_by_name(client: lossd.Client, way: Any) -> None:
    """Those without one come as arrays of their own."""
    out = np.empty_like(X)

    result = client.bce(X, X, grad=("input", "target"), out={"target": out}, transport=way)

    assert result.grads["target"] is out
    assert result.grad is not None
    assert out.tobytes() == client.bce(X, X, grad="target").grads["target"].tobytes()


@pytest.mark.parametrize("way", WAYS)
def test_torch_tensors_are_places(client: lossd.Client, way: Any) -> None:
    """Of any dtype, without importing torch."""
    x, out = torch.tensor(X).to(torch.bfloat16), torch.empty(2, 3, dtype=torch.bfloat16)

    result = client.bce(x, X, grad=True, out=out, transport=way)

    assert result.grad is out
    assert torch.equal(out, client.bce(x, X, grad=True).grad)


def test_a_weight_gradient_has_a_place(client: lossd.Client) -> None:
    """Of one number a class, though no weight was given."""
    out = np.empty(3, np.float32)

    assert client.cross_entropy(X, X, grad="weight", out=out).grads["weight"] is out
    assert client.cross_entropy(X, X, grad="weight", out={"weight": out}).grads["weight"] is out


@pytest.mark.parametrize(
    "out, sentence",
    [
        (np.empty((2, 4), np.float32), r"is float32 \[2, 4\], the gradient is float32 \[2, 3\]"),
        (np.empty((2, 3), np.float64), r"is float64 \[2, 3\], the gradient is float32"),
        (np.empty((2, 3), ">f4"), "is float32"),
        (np.empty((3, 2), np.float32).T, "C order"),
        (np.empty((2, 6), np.float32)[:, ::2], "C order"),
        (np.broadcast_to(np.float32(0), (2, 3)), "writable"),
        ([[0.0] * 3] * 2, "is a list"),
        ({"target": np.empty_like(X)}, "the gradient of target, but grad asks for input"),
        (torch.empty(3, 2).T, "contiguous"),
        (torch.empty(2, 3, requires_grad=True), "without grad"),
        (torch.empty(2, 3, dtype=torch.int32), "is int32"),
    ],
)
def test_a_place_that_does_not_fit_is_refused(out: Any, sentence: str) -> None:
    """Before anything is sent, naming what it is and what it must be."""
    with pytest.raises(lossd.InvalidArgument, match=sentence) as caught:
        build("bce", X, X, grad=True, out=out)

    assert caught.value.field == "out"


def test_a_place_without_a_gradient_is_refused() -> None:
    """It would be left as it is."""
    with pytest.raises(lossd.InvalidArgument, match="grad asks for none"):
        build("bce", X, X, out=np.empty_like(X))
