"""`with remote(client)`: which functions, in which thread, with and round torch.compile."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import lossd
from lossd.torch import remote
from tests.torch.routes import calls

Y = torch.tensor([0, 1, -100, 3, 2])


def test_other_losses_pass_through(client: lossd.Client) -> None:
    """PyTorch computes what the table does not have: no call is made."""
    x = torch.randn(5, 4)
    before = calls(client)
    with remote(client):
        inside = [F.mse_loss(x, x + 1), F.soft_margin_loss(x, x.sign()), F.l1_loss(x, x * 2), torch.nn.ReLU()(x).sum()]
    outside = [F.mse_loss(x, x + 1), F.soft_margin_loss(x, x.sign()), F.l1_loss(x, x * 2), torch.nn.ReLU()(x).sum()]

    assert calls(client) == before
    assert inside == outside


def test_modes_nest(client: lossd.Client) -> None:
    """The innermost client is asked, and after it the outer one again."""
    x = torch.randn(5, 4)
    with lossd.Client("embedded") as other, remote(client):
        outer = calls(client)
        with remote(other):
            F.cross_entropy(x, Y)
        assert (calls(other), calls(client)) == (1, outer)
        F.cross_entropy(x, Y)
        assert (calls(other), calls(client)) == (1, outer + 1)


def test_other_threads_are_as_they_were(client: lossd.Client) -> None:
    """The mode is of the thread that entered it."""
    x = torch.randn(5, 4)
    with remote(client):
        before = calls(client)
        thread = threading.Thread(target=lambda: F.cross_entropy(x, Y))
        thread.start()
        thread.join()

        assert calls(client) == before


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("loss", ["cross_entropy", "nll_loss", "kl_div", "binary_cross_entropy_with_logits"])
def test_a_checkpoint_that_is_recomputed_outside(client: lossd.Client, loss: str, use_reentrant: bool) -> None:
    """One call, and PyTorch's gradients: its second forward pass is not in the mode, and saves other tensors."""
    layer = torch.nn.Linear(4, 4)
    target = Y if loss in ("cross_entropy", "nll_loss") else torch.rand(5, 4)

    def body(x: Tensor) -> Tensor:
        found: Tensor = getattr(F, loss)(torch.relu(layer(x)), target, reduction="sum")
        return found

    x = torch.randn(5, 4, requires_grad=True)
    expected = torch.autograd.grad(body(x), (x, layer.weight))
    before = calls(client)
    with remote(client):
        value = checkpoint(body, x, use_reentrant=use_reentrant)
    value.backward()

    assert calls(client) == before + 1
    torch.testing.assert_close((x.grad, layer.weight.grad), expected, rtol=1e-5, atol=1e-6)


def test_a_loss_in_the_middle_of_a_checkpoint(client: lossd.Client) -> None:
    """With `remote` round the loss line, more layers may follow: the second forward pass makes the same call again."""
    layer = torch.nn.Linear(4, 4)

    def body(x: Tensor, context: Any) -> Tensor:
        hidden = layer(x)
        with context:
            losses = F.cross_entropy(hidden, Y, reduction="none")
        return losses.exp().sum() + torch.tanh(hidden).square().sum()

    x = torch.randn(5, 4, requires_grad=True)
    (expected,) = torch.autograd.grad(body(x, nullcontext()), x)
    before = calls(client)
    (found,) = torch.autograd.grad(checkpoint(body, x, remote(client), use_reentrant=False), x)

    assert calls(client) == before + 2
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # PyTorch's own, of what it imports
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_the_mode_inside_a_graph_and_round_it(client: lossd.Client, backend: str) -> None:
    """Both are one graph with the operator; after `with` the same function is compiled anew, for PyTorch's loss."""

    def inside(x: Tensor) -> Tensor:
        with remote(client):
            return F.cross_entropy(x * 2, Y)

    def plain(x: Tensor) -> Tensor:
        return F.cross_entropy(x * 2, Y)

    x = torch.randn(5, 4, requires_grad=True)
    (expected,) = torch.autograd.grad(plain(x), x)
    compiled = torch.compile(plain, backend=backend, fullgraph=True)
    start = calls(client)
    (first,) = torch.autograd.grad(torch.compile(inside, backend=backend, fullgraph=True)(x), x)
    with remote(client):
        (second,) = torch.autograd.grad(compiled(x), x)
    compiled(x)

    assert calls(client) == start + 2
    torch.testing.assert_close(first, expected)
    torch.testing.assert_close(second, expected)
