"""First derivatives are right, second ones raise: whoever asks, by whatever route."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import functional as autograd
from torch.func import grad, hessian, jacrev, vjp

import lossd
from tests.torch.losses import NAMES_OF_CALLS, Call, assert_same, backward, calls_of_losses
from tests.torch.routes import ROUTES, Route, local

# What a refused second derivative says. func.hessian takes its own by PyTorch's forward mode, which there is none of.
SECOND = re.compile(r"second derivative|no forward-mode derivatives")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """kl_div warns of its mean, backward(create_graph=True) of cycles, PyTorch's forward mode of its own torch.jit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


@pytest.fixture(params=NAMES_OF_CALLS)
def call(request: pytest.FixtureRequest) -> Call:
    return calls_of_losses()[request.param]


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("route", ROUTES)
def test_gradients_are_pytorchs(client: lossd.Client, call: Call, route: str, reduction: str) -> None:
    """In float64, by every route and reduction; those of targets, too."""
    assert_same(call, ROUTES[route], client, reduction=reduction)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("route", ["functional", "remote", "RemoteTensor"])
def test_gradients_are_those_of_differences(client: lossd.Client, call: Call, route: str, reduction: str) -> None:
    """torch.autograd.gradcheck finds the same gradients by differences of the loss."""
    leaves = call.leaves

    def loss(*tensors: Tensor) -> Tensor:
        return call.compute(ROUTES[route], client, dict(zip(leaves, tensors, strict=True)), reduction=reduction)

    # Not in batches: these are calls of a server, and vmap has tests of its own.
    assert torch.autograd.gradcheck(loss, tuple(leaves.values()), check_batched_grad=False, fast_mode=False)


def by_create_graph(loss: Callable[[Tensor], Tensor], x: Tensor) -> Any:
    (first,) = torch.autograd.grad(loss(x), x, create_graph=True)
    return torch.autograd.grad(first.square().sum(), x)


def by_backward(loss: Callable[[Tensor], Tensor], x: Tensor) -> Any:
    backward(loss(x), create_graph=True)
    assert x.grad is not None
    backward(x.grad.square().sum())


def by_penalty(loss: Callable[[Tensor], Tensor], x: Tensor) -> Any:
    """The gradient's norm added to the loss, as a gradient penalty does."""
    y = x * 1.5
    value = loss(y)
    (first,) = torch.autograd.grad(value, y, create_graph=True)
    backward(value + first.norm())


def by_gradgradcheck(loss: Callable[[Tensor], Tensor], x: Tensor) -> Any:
    return torch.autograd.gradgradcheck(loss, (x,))


def by_twice_grad(loss: Callable[[Tensor], Tensor], x: Tensor) -> Any:
    first = grad(loss)
    return grad(lambda at: first(at).square().sum())(x.detach())


def by_grad_within_autograd(loss: Callable[[Tensor], Tensor], x: Tensor) -> Any:
    """torch.func's gradient inside, autograd's outside."""
    return torch.autograd.grad(grad(loss)(x).square().sum(), x)


SECONDS: dict[str, Callable[[Callable[[Tensor], Tensor], Tensor], Any]] = {
    "autograd.grad": by_create_graph,
    "backward": by_backward,
    "penalty": by_penalty,
    "autograd.functional.hessian": lambda loss, x: autograd.hessian(loss, x.detach()),  # type: ignore[no-untyped-call]
    "autograd.functional.hvp": lambda loss, x: autograd.hvp(loss, x.detach(), x.detach()),  # type: ignore[no-untyped-call]
    "gradgradcheck": by_gradgradcheck,
    "func.grad of func.grad": by_twice_grad,
    "func.grad inside autograd": by_grad_within_autograd,
    "func.hessian": lambda loss, x: hessian(loss)(x.detach()),
    "func.jacrev of func.grad": lambda loss, x: jacrev(grad(loss))(x.detach()),
    "func.vjp of func.grad": lambda loss, x: vjp(grad(loss), x.detach())[1](x.detach()),
}


@pytest.mark.parametrize("way", SECONDS)
@pytest.mark.parametrize("route", ROUTES)
def test_a_second_derivative_raises(client: lossd.Client, route: str, way: str) -> None:
    """It is neither zero nor silently nothing: the sentence says that there is none."""
    call = calls_of_losses()["cross_entropy of probabilities"]
    x = call.leaves["input"]

    def loss(at: Tensor) -> Tensor:
        return call.compute(ROUTES[route], client, {"input": at, "target": call.target})

    with pytest.raises(Exception, match=SECOND):
        SECONDS[way](loss, x)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_second_derivative_of_a_compiled_loss_raises(client: lossd.Client, backend: str) -> None:
    """In aot_eager and inductor PyTorch itself has none, and says so."""
    call = calls_of_losses()["cross_entropy of probabilities"]

    def loss(at: Tensor) -> Tensor:
        return call.compute(ROUTES["functional"], client, {"input": at, "target": call.target})

    with pytest.raises(RuntimeError, match=rf"{SECOND.pattern}|not currently support double backward"):
        by_penalty(torch.compile(loss, fullgraph=True, backend=backend), call.leaves["input"])


@pytest.mark.parametrize("route", ROUTES)
def test_a_second_derivative_of_each_loss_raises(client: lossd.Client, call: Call, route: str) -> None:
    """By each of its tensors."""
    for leaf in (leaves := call.leaves).values():
        loss = call.compute(ROUTES[route], client, leaves)

        with pytest.raises(RuntimeError, match=SECOND):
            twice(loss, leaf, leaf)


@pytest.mark.parametrize("route", ROUTES)
def test_the_gradient_by_the_upstream_gradient(client: lossd.Client, route: str) -> None:
    """The gradient is linear in what comes from above: by that alone it may have a derivative, PyTorch's, or raises."""
    call = calls_of_losses()["bce_with_logits"]

    def slope(compute: Route) -> Tensor:
        leaves = call.leaves
        scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
        return twice(call.compute(compute, client, leaves) * scale, leaves["input"], scale)

    try:
        found = slope(ROUTES[route])
    except RuntimeError as error:
        assert SECOND.search(str(error))  # either is right
        return
    torch.testing.assert_close(found, slope(local), rtol=1e-12, atol=1e-12)


def twice(loss: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Whether the first gradient is refused already, or the second: both are in time."""
    (slope,) = torch.autograd.grad(loss, first, create_graph=True)
    return torch.autograd.grad(slope.square().sum(), second)[0]
