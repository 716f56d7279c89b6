"""torch.func's transforms of a remote loss."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, grad_and_value, jacrev, vjp, vmap
from torch.nn import functional as F

import lossd
from tests.torch.losses import NAMES_OF_CALLS, calls_of_losses
from tests.torch.routes import ROUTES, Route, calls, local


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """kl_div warns of its mean, and PyTorch's forward mode of its own use of torch.jit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


@pytest.fixture(params=ROUTES)
def route(request: pytest.FixtureRequest) -> Route:
    return ROUTES[request.param]


@pytest.mark.parametrize("name", NAMES_OF_CALLS)
def test_func_grad_is_pytorchs(client: lossd.Client, name: str, route: Route) -> None:
    """grad_and_value by the input, and by the target where it has a gradient: in one call."""
    call = calls_of_losses()[name]
    tensors = {key: leaf.detach() for key, leaf in call.leaves.items()}
    by = tuple(range(len(tensors)))

    def loss(compute: Route) -> object:
        def of(*at: Tensor) -> Tensor:
            return call.compute(compute, client, dict(zip(tensors, at, strict=True)))

        return grad_and_value(of, argnums=by)(*tensors.values())

    before = calls(client)
    ours = loss(route)

    assert calls(client) - before == 1
    torch.testing.assert_close(ours, loss(local), rtol=1e-12, atol=1e-12)


def test_func_grad_of_a_model(client: lossd.Client, route: Route) -> None:
    """functional_call of a model, its loss remote: each parameter's gradient."""
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    x, y = torch.randn(4, 5, dtype=torch.float64), torch.tensor([0, 1, 2, 0])

    def gradients(compute: Route) -> object:
        return grad(lambda at: compute(client, "cross_entropy", functional_call(model, at, (x,)), y))(parameters)

    torch.testing.assert_close(gradients(route), gradients(local), rtol=1e-12, atol=1e-12)


def test_vjp_and_jacrev_of_losses_by_row(client: lossd.Client, route: Route) -> None:
    """vjp is one pass; jacrev takes the pullback under vmap, which needs no server: one call each."""
    call = calls_of_losses()["cross_entropy of classes"]
    seed = torch.tensor([1.0, 0.0, -2.0, 0.5], dtype=torch.float64)

    def rows(compute: Route, at: Tensor) -> Tensor:
        return call.compute(compute, client, {"input": at}, reduction="none")

    before = calls(client)
    value, pull, *_ = vjp(lambda at: rows(route, at), call.input)
    (pulled,) = pull(seed)
    jacobian = jacrev(lambda at: rows(route, at))(call.input)

    assert calls(client) - before == 2
    theirs, their_pull, *_ = vjp(lambda at: rows(local, at), call.input)
    torch.testing.assert_close(value, theirs, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(pulled, their_pull(seed)[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(jacobian, jacrev(lambda at: rows(local, at))(call.input), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("name", NAMES_OF_CALLS)
def test_vmap_is_pytorchs_or_an_error(client: lossd.Client, name: str, reduction: str, route: Route) -> None:
    """Over a batch of inputs and targets: PyTorch's losses, or a sentence that names vmap; never another number."""
    call = calls_of_losses()[name]
    inputs = torch.stack([call.input, call.input.flip(1)])
    targets = torch.stack([call.target, call.target.flip(0)])

    def one(compute: Route, x: Tensor, y: Tensor) -> Tensor:
        return compute(client, call.method, x, y, **(call.options | {"reduction": reduction}))

    try:
        found = vmap(partial(one, route))(inputs, targets)
    except (RuntimeError, NotImplementedError, ValueError) as error:
        assert "vmap" in str(error)  # either is right
        return
    each = [one(local, x, y) for x, y in zip(inputs, targets, strict=True)]  # PyTorch's smoothed mean has no vmap
    torch.testing.assert_close(found, torch.stack(each), rtol=1e-12, atol=1e-12)


def test_gradients_by_sample_are_pytorchs_or_an_error(client: lossd.Client, route: Route) -> None:
    """vmap(grad(loss)), the way to gradients by sample."""
    x, y = torch.randn(4, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 0])

    def one(row: Tensor, label: Tensor) -> Tensor:
        return route(client, "cross_entropy", row, label)

    try:
        found = vmap(grad(one))(x, y)
    except (RuntimeError, NotImplementedError, ValueError) as error:
        assert "vmap" in str(error)  # either is right
        return
    torch.testing.assert_close(found, vmap(grad(F.cross_entropy))(x, y), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.sum(0), grad(lambda at: F.cross_entropy(at, y, reduction="sum"))(x).sum(0))


def test_a_batched_gradient_of_autograd(client: lossd.Client, route: Route) -> None:
    """autograd.grad with is_grads_batched takes many upstream gradients at once: the pullback needs no server."""
    call = calls_of_losses()["cross_entropy of classes"]
    upstream = torch.eye(4, dtype=torch.float64)

    def batched(compute: Route) -> Tensor:
        leaves = call.leaves
        loss = call.compute(compute, client, leaves, reduction="none")
        return torch.autograd.grad(loss, leaves["input"], upstream, is_grads_batched=True)[0]

    torch.testing.assert_close(batched(route), batched(local), rtol=1e-12, atol=1e-12)


def test_forward_mode_says_what_there_is(client: lossd.Client, route: Route) -> None:
    """jvp of a remote loss raises: no derivative that is silently nothing."""
    call = calls_of_losses()["cross_entropy of classes"]

    with pytest.raises((RuntimeError, NotImplementedError), match=r"jvp|[Ff]orward"):
        torch.func.jvp(lambda at: call.compute(route, client, {"input": at}), (call.input,), (call.input,))
