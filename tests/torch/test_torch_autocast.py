"""Autocast: the losses that PyTorch computes in float32 there are computed in float32 here."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import lossd
from tests.torch.losses import NAMES_OF_CALLS, backward, calls_of_losses
from tests.torch.routes import ROUTES, Route, local


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """kl_div warns of its mean."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


@pytest.mark.parametrize("within", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", NAMES_OF_CALLS)
@pytest.mark.parametrize("route", ROUTES)
def test_dtypes_are_pytorchs(
    client: lossd.Client, route: str, name: str, dtype: torch.dtype, within: torch.dtype
) -> None:
    """Under torch.autocast("cpu"): loss and gradients have PyTorch's dtypes, and its values to that dtype's error."""
    call = calls_of_losses(dtype)[name]

    def computed(compute: Route) -> tuple[Tensor, ...]:
        leaves = call.leaves
        with torch.autocast("cpu", dtype=within):
            loss = call.compute(compute, client, leaves, reduction="none")
        upstream = torch.ones_like(loss)
        return loss.detach(), *torch.autograd.grad(loss, tuple(leaves.values()), upstream)

    for ours, theirs in zip(computed(ROUTES[route]), computed(local), strict=True):
        torch.testing.assert_close(ours, theirs, check_dtype=True)


@pytest.mark.parametrize("route", ROUTES)
def test_a_step_under_autocast(client: lossd.Client, route: str) -> None:
    """A model in bfloat16 by autocast, its loss remote, its gradients in float32: as with PyTorch's loss."""
    model = nn.Linear(6, 4)
    x, y = torch.randn(8, 6), torch.arange(8) % 4

    def gradients(compute: Route) -> tuple[Tensor, ...]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = compute(client, "cross_entropy", model(x), y)
        return loss.detach(), *torch.autograd.grad(loss, tuple(model.parameters()))

    for ours, theirs in zip(gradients(ROUTES[route]), gradients(local), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("route", ROUTES)
def test_a_grad_scaler(client: lossd.Client, route: str) -> None:
    """torch.amp.GradScaler on the CPU: scaled, unscaled, stepped, to PyTorch's parameters."""

    def stepped(compute: Route) -> list[Tensor]:
        torch.manual_seed(5)
        model = nn.Linear(6, 4)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=65536.0)
        for _ in range(2):
            x, y = torch.randn(8, 6), torch.arange(8) % 4
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.float16):
                loss = compute(client, "cross_entropy", model(x), y)
            backward(scaler.scale(loss))
            scaler.step(optimizer)
            scaler.update()
        return [parameter.detach() for parameter in model.parameters()]

    for ours, theirs in zip(stepped(ROUTES[route]), stepped(local), strict=True):
        torch.testing.assert_close(ours, theirs)
