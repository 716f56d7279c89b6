"""Tensors of every layout and extent, and what PyTorch does with those that want gradients."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import lossd
from tests.torch.losses import NAMES_OF_CALLS, Call, assert_same, backward, calls_of_losses
from tests.torch.routes import ROUTES, Route, calls, local


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """kl_div warns of its mean."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


@pytest.fixture(params=ROUTES)
def route(request: pytest.FixtureRequest) -> Route:
    return ROUTES[request.param]


def spread(x: Tensor) -> Tensor:
    """The same numbers with a stride of two, and a storage offset."""
    wide = torch.zeros(*x.shape[:-1], 2 * x.shape[-1] + 1, dtype=x.dtype)
    view = wide[..., 1::2]
    return view.copy_(x)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed": lambda x: x.t().contiguous().t() if x.ndim == 2 else x,
    "strided": spread,
    "of a slice": lambda x: torch.cat([x, x])[x.shape[0] :],
    "moved": lambda x: x.movedim(0, -1).clone().movedim(-1, 0),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NAMES_OF_CALLS)
def test_layouts(client: lossd.Client, name: str, layout: str, route: Route) -> None:
    """Views are computed as their copies are, and a gradient passes through them to what they are views of."""
    call = calls_of_losses()[name]
    to = LAYOUTS[layout]

    def gradients(compute: Route) -> tuple[Tensor, ...]:
        leaves = call.leaves
        viewed = {key: to(leaf) for key, leaf in leaves.items()}
        moved = Call(call.method, call.input, to(call.target), call.options)
        return torch.autograd.grad(moved.compute(compute, client, viewed), tuple(leaves.values()))

    for ours, theirs in zip(gradients(route), gradients(local), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_channels_last(client: lossd.Client, route: Route) -> None:
    """(N, C, H, W) with the channels' stride 1, as segmentation has it; losses by pixel and their mean."""
    for reduction in ("none", "mean"):
        x = torch.randn(2, 3, 4, 5, dtype=torch.float64).to(memory_format=torch.channels_last)
        y = torch.randint(3, (2, 4, 5))
        assert_same(Call("cross_entropy", x, y, {"reduction": reduction}), route, client)


def test_expanded_tensors(client: lossd.Client, route: Route) -> None:
    """Strides of 0: the gradients of the repeated entries add up."""
    row = torch.randn(1, 3, dtype=torch.float64, requires_grad=True)
    y = torch.tensor([1]).expand(4)
    weight = torch.tensor(2.0, dtype=torch.float64).expand(3)

    def of(compute: Route) -> tuple[Tensor, ...]:
        loss = compute(client, "cross_entropy", row.expand(4, 3), y, weight=weight, reduction="sum")
        return loss.detach(), *torch.autograd.grad(loss, row)

    for ours, theirs in zip(of(route), of(local), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("name", NAMES_OF_CALLS)
def test_zero_rows(client: lossd.Client, name: str, reduction: str, route: Route) -> None:
    """An empty batch: PyTorch's shapes, NaN for the mean, 0 for the sum, and empty gradients."""
    call = calls_of_losses(rows=4)[name]
    empty = Call(call.method, call.input[:0], call.target[:0], call.options)

    def of(compute: Route) -> tuple[Tensor, ...]:
        leaves = empty.leaves
        loss = empty.compute(compute, client, leaves, reduction=reduction)
        backward(loss, torch.ones_like(loss))
        return loss.detach(), *(leaf.grad for leaf in leaves.values() if leaf.grad is not None)

    for ours, theirs in zip(of(route), of(local), strict=True):
        torch.testing.assert_close(ours, theirs, equal_nan=True)


def scalars() -> dict[str, Call]:
    half, one = torch.tensor(0.5, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)
    return {
        "bce": Call("bce", half, one),
        "bce_with_logits": Call("bce_with_logits", half, one),
        "kl_divergence, batchmean": Call("kl_divergence", -half, half, {"reduction": "batchmean"}),
        "kl_divergence, none": Call("kl_divergence", -half, half, {"reduction": "none"}),
    }


@pytest.mark.parametrize("name", scalars())
def test_tensors_without_a_dimension(client: lossd.Client, name: str, route: Route) -> None:
    """0-d input and target."""
    assert_same(scalars()[name], route, client)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_one_row(client: lossd.Client, route: Route, reduction: str) -> None:
    """A 1-D input is a row of classes: its target is a scalar, or a distribution."""
    x = torch.randn(5, dtype=torch.float64)
    log_p = x.log_softmax(0)
    options = {"reduction": reduction}
    for call in (
        Call("cross_entropy", x, torch.tensor(3), options),
        Call("cross_entropy", x, x.softmax(0), options),
        Call("nll", log_p, torch.tensor(3), options),
    ):
        assert_same(call, route, client)
        leaves = call.leaves
        ours, theirs = call.compute(route, client, leaves), call.compute(local, None, leaves)
        assert ours.shape == theirs.shape


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 5), (2, 1), (1, 1, 1), (2, 3, 0)], ids=str)
def test_more_dimensions(client: lossd.Client, route: Route, shape: tuple[int, ...]) -> None:
    """(N, C, d1 … dk), with one class, and with none of the last dimension."""
    x = torch.randn(shape, dtype=torch.float64)
    y = torch.randint(shape[1], (shape[0], *shape[2:]))
    for method, values in (("cross_entropy", x), ("nll", x.log_softmax(1))):
        call = Call(method, values, y, {"reduction": "sum"})
        assert_same(call, route, client)
        none = [call.compute(one, client, call.leaves, reduction="none") for one in (route, local)]
        torch.testing.assert_close(none[0], none[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8], ids=str)
def test_targets_of_each_integer_dtype(client: lossd.Client, route: Route, dtype: torch.dtype) -> None:
    """The two that PyTorch takes."""
    call = calls_of_losses()["cross_entropy of classes"]
    weighted = {"weight": call.options["weight"]}  # PyTorch's label smoothing takes int64 alone
    assert_same(Call(call.method, call.input, call.target.to(dtype), weighted), route, client)


def test_all_rows_ignored(client: lossd.Client, route: Route) -> None:
    """The mean is NaN, its gradient PyTorch's."""
    call = Call("cross_entropy", torch.randn(3, 4, dtype=torch.float64), torch.full((3,), -100))
    for ours, theirs in zip(call.gradients(route, client), call.gradients(local), strict=True):
        torch.testing.assert_close(ours, theirs, equal_nan=True)


WEIGHTED: dict[str, tuple[str, str, str]] = {
    "cross_entropy of classes": ("cross_entropy", "weight", "classes"),
    "nll": ("nll", "weight", "classes"),
    "bce": ("bce", "weight", "floats"),
    "bce_with_logits": ("bce_with_logits", "weight", "floats"),
    "bce_with_logits, pos_weight": ("bce_with_logits", "pos_weight", "floats"),
}


@pytest.mark.parametrize("name", WEIGHTED)
def test_a_weight_that_wants_a_gradient(client: lossd.Client, name: str, route: Route) -> None:
    """PyTorch has none there, and says so in a RuntimeError: the same here, not a gradient that is silently missing."""
    call = calls_of_losses()[name.split(",")[0]]
    _, option, _ = WEIGHTED[name]
    weight = call.options[option].clone().requires_grad_()

    def of(compute: Route) -> Any:
        return call.compute(compute, client, call.leaves, **{option: weight})

    with pytest.raises(RuntimeError) as theirs:
        of(local)
    with pytest.raises(RuntimeError) as ours:
        of(route)
    assert "not differentiable with respect to argument 'weight'" in str(theirs.value) or option == "pos_weight"
    assert option in str(ours.value)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_a_class_weight_has_a_gradient_with_distributions(client: lossd.Client, route: Route, reduction: str) -> None:
    """As PyTorch's, which composes that one of differentiable parts."""
    call = calls_of_losses()["cross_entropy of probabilities"]

    def of(compute: Route) -> tuple[Tensor, ...]:
        leaves = call.leaves
        weight = call.options["weight"].clone().requires_grad_()
        loss = call.compute(compute, client, leaves, weight=weight, reduction=reduction)
        upstream = torch.linspace(-1, 1, loss.numel(), dtype=torch.float64).reshape(loss.shape)
        return torch.autograd.grad(loss, (*leaves.values(), weight), upstream)

    for ours, theirs in zip(of(route), of(local), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_large_tensors(client: lossd.Client, route: Route) -> None:
    """Beyond one message, and beyond what is sent in one: through shared memory, or in blocks."""
    x = torch.randn(3000, 2000)
    y = torch.randint(2000, (3000,))
    call = Call("cross_entropy", x, y)
    ours, theirs = call.gradients(route, client), call.gradients(local)

    torch.testing.assert_close(ours[0], theirs[0])
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-4, atol=1e-9)


def test_given_tensors_stay_as_they_are(client: lossd.Client, route: Route) -> None:
    """Neither changed nor kept: what the caller writes into a target after the call does not reach the gradient.

    PyTorch keeps the target, and raises in backward.
    """
    x = torch.randn(4, 3, dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 0])
    (expected,) = torch.autograd.grad(F.cross_entropy(leaf := x.clone().requires_grad_(), y), leaf)
    leaf = x.clone().requires_grad_()
    loss = route(client, "cross_entropy", leaf, y)
    with torch.no_grad():
        y.zero_()
    backward(loss)

    assert leaf.equal(x)
    torch.testing.assert_close(leaf.grad, expected, rtol=1e-12, atol=1e-12)


def test_meta_tensors(client: lossd.Client, route: Route) -> None:
    """Tensors without numbers give a loss without one, of PyTorch's shape and dtype, and ask no server."""
    call = calls_of_losses()["cross_entropy of classes"]
    options = {name: one.to("meta") if isinstance(one, Tensor) else one for name, one in call.options.items()}
    meta = Call(call.method, call.input.to("meta"), call.target.to("meta"), options)
    before = calls(client)
    ours, theirs = meta.gradients(route, client, reduction="none"), meta.gradients(local, reduction="none")

    assert [(one.device, one.dtype, one.shape) for one in ours] == [(t.device, t.dtype, t.shape) for t in theirs]
    assert calls(client) == before
