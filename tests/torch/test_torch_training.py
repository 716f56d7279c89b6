"""What training loops do round a loss: checkpoints, autocast, scaling, accumulation, hooks, several backwards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import lossd
import lossd.torch
from tests.torch.accepted_errors import largest, wide
from tests.torch.losses import Call, backward, calls_of_losses
from tests.torch.routes import ROUTES, Route, calls, local


@pytest.fixture(params=ROUTES)
def route(request: pytest.FixtureRequest) -> Route:
    return ROUTES[request.param]


@pytest.fixture
def call() -> Call:
    return calls_of_losses()["cross_entropy of classes"]


def grad_of(leaf: Tensor) -> Tensor:
    assert leaf.grad is not None
    return leaf.grad


def gradient(client: lossd.Client, call: Call, route: Route, upstream: float) -> Tensor:
    leaves = call.leaves
    backward(call.compute(route, client, leaves), torch.tensor(upstream, dtype=call.input.dtype))
    assert leaves["input"].grad is not None
    return leaves["input"].grad


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_a_checkpointed_loss(client: lossd.Client, route: Route, use_reentrant: bool) -> None:
    """Recomputed in backward, by the same route: PyTorch's gradients, of the layer before it too."""
    layer = nn.Linear(5, 3).double()
    x, y = torch.randn(4, 5, dtype=torch.float64, requires_grad=True), torch.tensor([0, 1, 2, 0])

    def gradients(compute: Route) -> tuple[Tensor, ...]:
        def segment(at: Tensor) -> Tensor:
            return compute(client, "cross_entropy", layer(at), y)

        loss: Tensor = checkpoint(segment, x, use_reentrant=use_reentrant)
        layer.zero_grad()
        x.grad = None
        backward(loss)
        return loss.detach(), grad_of(x), grad_of(layer.weight).clone()

    for ours, theirs in zip(gradients(route), gradients(local), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_a_checkpoint_inside_the_mode(client: lossd.Client, use_reentrant: bool) -> None:
    """Backward outside `remote` recomputes without the mode, or inside with it: the gradients are right both times."""
    layer = nn.Linear(5, 3).double()
    x, y = torch.randn(4, 5, dtype=torch.float64, requires_grad=True), torch.tensor([0, 1, 2, 0])
    (expected,) = torch.autograd.grad(F.cross_entropy(layer(x), y), x)

    for inside in (True, False):
        x.grad = None
        with lossd.torch.remote(client):
            loss = checkpoint(lambda at: F.cross_entropy(layer(at), y), x, use_reentrant=use_reentrant)
            if inside:
                backward(loss)
        if not inside:
            backward(loss)
        torch.testing.assert_close(x.grad, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_a_checkpointed_model_before_the_loss(
    client: lossd.Client, route: Route, call: Call, use_reentrant: bool
) -> None:
    """The usual one: blocks are recomputed in backward, the loss is not; one call."""
    layer = nn.Linear(3, 3).double()
    before = calls(client)

    def gradients(compute: Route) -> Tensor:
        leaf = call.leaves["input"]
        logits = checkpoint(layer, leaf, use_reentrant=use_reentrant)
        # Reentrant checkpoints take backward() alone, not autograd.grad.
        backward(call.compute(compute, client, {"input": logits}))
        assert leaf.grad is not None
        return leaf.grad

    ours = gradients(route)
    assert calls(client) - before == 1
    torch.testing.assert_close(ours, gradients(local), rtol=1e-12, atol=1e-12)


def test_forward_and_backward_are_one_call(client: lossd.Client, route: Route) -> None:
    """For every loss, whatever of its tensors want gradients."""
    for call in calls_of_losses().values():
        leaves = call.leaves
        before = calls(client)
        backward(call.compute(route, client, leaves, reduction="sum"))

        assert calls(client) - before == 1


def test_backward_twice(client: lossd.Client, route: Route, call: Call) -> None:
    """retain_graph gives the same gradient again, and adds it; without it, the second raises as PyTorch's does."""
    leaves = call.leaves
    before = calls(client)
    loss = call.compute(route, client, leaves)
    backward(loss, retain_graph=True)
    assert leaves["input"].grad is not None
    once = leaves["input"].grad.clone()
    backward(loss)

    torch.testing.assert_close(leaves["input"].grad, 2 * once, rtol=0, atol=0)
    assert calls(client) - before == 1
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        backward(loss)


def test_gradients_accumulate(client: lossd.Client, route: Route, call: Call) -> None:
    """Two losses of one parameter: their gradients add up, whichever backward comes first."""
    leaves = call.leaves
    first = call.compute(route, client, leaves)
    second = call.compute(route, client, leaves, reduction="sum")
    backward(second)
    backward(first)

    expected = (
        gradient(client, call, local, 1.0)
        + Call(call.method, call.input, call.target, call.options | {"reduction": "sum"}).gradients(local)[1]
    )
    torch.testing.assert_close(leaves["input"].grad, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("upstream", [0.0, -3.0, 65536.0])
def test_upstream_gradients(client: lossd.Client, route: Route, upstream: float) -> None:
    """Zero, negative and large, as PyTorch's, for every loss."""
    for call in sums():
        ours, theirs = gradient(client, call, route, upstream), gradient(client, call, local, upstream)
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("upstream", [float("inf"), float("-inf"), float("nan")])
def test_upstream_gradients_that_are_no_numbers(client: lossd.Client, route: Route, upstream: float) -> None:
    """An overflow or a NaN above shows wherever it does in PyTorch, so that a GradScaler finds it; zeros stay zeros."""
    for call in sums():
        ours, theirs = gradient(client, call, route, upstream), gradient(client, call, local, upstream)
        assert torch.equal(ours.isfinite(), theirs.isfinite()), call.method
        torch.testing.assert_close(ours[ours.isfinite()], theirs[theirs.isfinite()], rtol=0, atol=0)


def sums() -> list[Call]:
    options = {"reduction": "sum"}
    return [Call(one.method, one.input, one.target, one.options | options) for one in calls_of_losses().values()]


def test_a_loss_times_zero(client: lossd.Client, route: Route, call: Call) -> None:
    """A term that is switched off leaves zeros, not None."""
    leaves = call.leaves
    backward(call.compute(route, client, leaves) * 0)

    assert leaves["input"].grad is not None
    assert not leaves["input"].grad.any()


def test_one_input_alone(client: lossd.Client, route: Route) -> None:
    """autograd.grad of the target, or of the input, alone: the other is left as it was."""
    for call in calls_of_losses().values():
        for name, leaf in (leaves := call.leaves).items():
            (ours,) = torch.autograd.grad(call.compute(route, client, leaves, reduction="sum"), leaf)
            others = call.leaves
            (theirs,) = torch.autograd.grad(call.compute(local, None, others, reduction="sum"), others[name])
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)

            assert all(one.grad is None for one in leaves.values())


def test_only_the_target_wants_a_gradient(client: lossd.Client, route: Route) -> None:
    """As in distillation, seen from the teacher: the input needs none, and has none."""
    for call in calls_of_losses().values():
        if not call.target.is_floating_point():
            continue
        target = call.leaves["target"]
        loss = call.compute(route, client, {"input": call.input, "target": target}, reduction="sum")
        backward(loss)
        other = call.leaves["target"]
        backward(call.compute(local, None, {"input": call.input, "target": other}, reduction="sum"))

        torch.testing.assert_close(target.grad, other.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_without_gradients(client: lossd.Client, route: Route, call: Call, guard: Any) -> None:
    """no_grad and inference_mode give the loss alone: it has no graph, and inference_mode's tensors can be given."""
    with guard():
        x = call.input * 1.0
        loss = call.compute(route, client, {"input": x.requires_grad_()})

    assert not loss.requires_grad
    assert loss.is_inference() == (guard is torch.inference_mode)
    torch.testing.assert_close(loss, call.compute(local, None, {"input": call.input}), rtol=1e-12, atol=1e-12)


def test_hooks_see_the_gradients(client: lossd.Client, route: Route, call: Call) -> None:
    """Hooks of tensors, of retained gradients, and of what accumulates run as they do in PyTorch."""
    seen: list[str] = []
    leaf = call.leaves["input"]
    between = leaf * 1.0
    between.register_hook(lambda grad: seen.append("tensor"))  # type: ignore[no-untyped-call]
    leaf.register_post_accumulate_grad_hook(lambda _: seen.append("accumulated"))  # type: ignore[no-untyped-call]
    loss = call.compute(route, client, {"input": between})
    loss.register_hook(lambda grad: grad * 2)  # type: ignore[no-untyped-call]
    between.retain_grad()
    backward(loss)

    assert seen == ["tensor", "accumulated"]
    torch.testing.assert_close(between.grad, 2 * gradient(client, call, local, 1.0), rtol=1e-12, atol=1e-12)


def test_a_gradient_is_the_callers(client: lossd.Client, route: Route, call: Call) -> None:
    """It can be changed in place, without changing what a second backward gives."""
    leaves = call.leaves
    loss = call.compute(route, client, leaves)
    (first,) = torch.autograd.grad(loss, leaves["input"], retain_graph=True)
    kept = first.clone()
    first.zero_()
    (second,) = torch.autograd.grad(loss, leaves["input"])

    torch.testing.assert_close(second, kept, rtol=0, atol=0)


@pytest.mark.parametrize("rows", [8, 4096])
def test_small_gradients_survive_in_float16(client: lossd.Client, route: Route, rows: int) -> None:
    """A loss scaled by 65536, as GradScaler does, in float16: no further off than PyTorch.

    The gradient of a mean over 4,096 rows is mostly below float16's least number until the scale lifts it.
    """
    x = (torch.randn(rows, 5) * 2).half()
    y = torch.arange(rows) % 5

    def scaled(compute: Route, at: Tensor) -> Tensor:
        leaf = at.clone().requires_grad_()
        loss = compute(client, "cross_entropy", leaf, y)
        # An upstream gradient within float16's range, as one that a scaled float32 sum passes down.
        (found,) = torch.autograd.grad(loss, leaf, torch.tensor(32768.0, dtype=loss.dtype))
        return found

    truth = wide(scaled(local, x.double()))
    ours, theirs = scaled(route, x), scaled(local, x)
    finite = np.isfinite(truth)

    assert ours.dtype == theirs.dtype
    assert largest(wide(ours) - truth, finite) <= max(
        largest(wide(theirs) - truth, finite), 4 * float(np.spacing(np.float16(largest(truth, finite))))
    )
    assert int((ours == 0).sum()) <= int((theirs == 0).sum())
