"""The operators `lossd::…` as graphs hold them: numbers for clients, gradients by name, nothing lost in silence."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import lossd
import lossd.torch.functional
from lossd.torch.default_client import client_of, number_of, set_client
from tests.torch.routes import calls

Y = torch.tensor([0, 1, -100, 3, 2])


def operator(input: Tensor, gradients: str = "input", client: int = 0, reduction: str = "mean") -> Any:
    return torch.ops.lossd.cross_entropy(input, Y, None, reduction, -100, 0.0, None, False, gradients, client)


def test_only_gradients_that_are_named_are_computed(client: lossd.Client) -> None:
    """The loss alone, or a gradient for each name, in their order."""
    x = torch.randn(5, 4)

    loss, gradients = operator(x, "", number_of(client))
    assert gradients == []
    assert loss == operator(x, "input", number_of(client))[0]


def test_a_gradient_that_was_not_asked_for_is_an_error(client: lossd.Client) -> None:
    """Where a graph that was made without gradients is trained: not a gradient of None."""
    x = torch.randn(5, 4, requires_grad=True)
    loss, _ = operator(x, "", number_of(client))

    with pytest.raises(RuntimeError, match="the gradient of input was not asked for when the loss was computed"):
        loss.backward()


def test_a_client_that_is_gone_is_named(client: lossd.Client) -> None:
    """A number that finds no client says how to keep one; it is InvalidArgument, on the field client."""
    gone = lossd.Client("127.0.0.1:9")
    number = number_of(gone)
    del gone
    gc.collect()

    with pytest.raises(lossd.InvalidArgument, match=f"client {number} is gone, or was another process's") as caught:
        operator(torch.randn(5, 4), "", number)
    assert (caught.value.field, caught.value.reason) == ("client", "NO_SUCH_CLIENT")


def test_a_compiled_graph_of_a_closed_client() -> None:
    """It says that the client is closed, as the client itself does."""
    with lossd.Client("embedded") as client:
        compiled = torch.compile(
            lambda x: lossd.torch.functional.cross_entropy(x, Y, client=client), backend="aot_eager", fullgraph=True
        )
        compiled(torch.randn(5, 4))

    with pytest.raises(lossd.Unavailable, match="closed"):
        compiled(torch.randn(5, 4))


def test_copies_have_numbers_of_their_own(client: lossd.Client) -> None:
    """A copied client, or a pickled one, is another: a number finds one client alone."""
    plain = lossd.Client("127.0.0.1:9")
    copies = [copy.copy(plain), pickle.loads(pickle.dumps(plain))]

    assert len({number_of(one) for one in (plain, *copies)}) == 3
    assert client_of(number_of(copies[1])) is copies[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="of systems that fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_finds_the_client(client: lossd.Client) -> None:
    """By the same number: its parent's graphs go on there."""
    number = number_of(client)
    pid = os.fork()
    if not pid:
        os._exit(0 if client_of(number) is client else 1)

    assert os.waitpid(pid, 0)[1] == 0


def test_the_default_client_is_the_one_of_the_moment(client: lossd.Client) -> None:
    """A graph without client= asks whoever is the default when it runs."""
    compiled = torch.compile(lambda x: lossd.torch.functional.cross_entropy(x, Y), backend="aot_eager", fullgraph=True)
    x = torch.randn(5, 4)
    with lossd.Client("embedded") as other:
        for one in (client, other, client):
            set_client(one)
            before = calls(one)
            compiled(x)
            assert calls(one) == before + 1
    set_client(None)


def test_what_is_no_client_is_refused() -> None:
    """By name, where it is given."""
    with pytest.raises(TypeError, match=r"client must be a lossd.Client, not str"):
        set_client("127.0.0.1:50051")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"client must be a lossd.Client, not Client"):
        set_client(lossd.aio.Client("127.0.0.1:9"))  # type: ignore[arg-type]


def test_a_loss_that_is_dropped_leaves_nothing(client: lossd.Client) -> None:
    """Its node, and the gradient that it holds, go at once, without the garbage collector."""
    x = torch.randn(5, 4, requires_grad=True)
    gc.disable()
    try:
        loss = lossd.torch.functional.cross_entropy(x, Y, client=client)
        node = weakref.ref(loss.grad_fn)
        del loss

        assert node() is None
    finally:
        gc.enable()


def test_backward_frees_the_gradient(client: lossd.Client) -> None:
    """As PyTorch frees what it saved: a second backward without retain_graph is PyTorch's own error."""
    x = torch.randn(5, 4, requires_grad=True)
    loss = lossd.torch.functional.cross_entropy(x, Y, client=client)
    loss.backward()  # type: ignore[no-untyped-call]

    with pytest.raises(RuntimeError, match="a second time"):
        loss.backward()  # type: ignore[no-untyped-call]


def test_a_loss_that_is_changed_in_place(client: lossd.Client) -> None:
    """`loss /= steps` before backward, as in loops that accumulate gradients."""
    x = torch.randn(5, 4, requires_grad=True)
    loss = lossd.torch.functional.cross_entropy(x, Y, client=client)
    loss /= 4
    loss.backward()  # type: ignore[no-untyped-call]
    (expected,) = torch.autograd.grad(F.cross_entropy(x, Y) / 4, x)

    torch.testing.assert_close(x.grad, expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # PyTorch's own, of what it imports
def test_forward_mode_is_refused(client: lossd.Client) -> None:
    """A tangent is not lost in silence, whether anything else wants a gradient or not."""
    from torch.autograd import forward_ad

    x = torch.randn(5, 4)
    for wants in (False, True):
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(x.clone().requires_grad_(wants), x)  # type: ignore[no-untyped-call]
            with pytest.raises(RuntimeError, match="lossd has no forward-mode derivatives"):
                lossd.torch.functional.cross_entropy(dual, Y, client=client)
    with pytest.raises(RuntimeError, match="lossd has no forward-mode derivatives"):
        torch.func.jvp(lambda x: lossd.torch.functional.cross_entropy(x, Y, client=client), (x,), (x,))


def test_inside_transforms_a_graph_breaks_with_a_reason(client: lossd.Client) -> None:
    """torch.compile of torch.func.grad is right without fullgraph, and says why it cannot be one graph."""

    def loss(x: Tensor) -> Tensor:
        return lossd.torch.functional.cross_entropy(x, Y, client=client)

    x = torch.randn(5, 4)
    expected = torch.func.grad(lambda x: F.cross_entropy(x, Y))(x)

    torch.testing.assert_close(torch.compile(torch.func.grad(loss), backend="aot_eager")(x), expected)
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"inside torch.func's transforms"):
        torch.compile(torch.func.grad(loss), backend="aot_eager", fullgraph=True)(x)
