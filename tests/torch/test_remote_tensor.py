"""RemoteTensor by PyTorch's protocol for stand-ins: a table of handled functions, NotImplemented for others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

import lossd
from lossd.torch import RemoteTensor, remote
from tests.torch.routes import calls

Y = torch.tensor([0, 1, -100, 3, 2])


def test_not_handled_is_not_implemented(client: lossd.Client) -> None:
    """What the table does not have, and types that it does not know, are for others to answer."""
    handle = RemoteTensor.__torch_function__

    assert handle(torch.add, (RemoteTensor,)) is NotImplemented
    assert handle(F.cross_entropy, (RemoteTensor, int)) is NotImplemented
    with pytest.raises(TypeError, match="no implementation found"):
        F.relu(RemoteTensor(torch.randn(3), client))  # type: ignore[arg-type]


def test_another_stand_in_answers(client: lossd.Client) -> None:
    """Mixed with a class of somebody else's: PyTorch asks that one, too."""

    class Other:
        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> str:
            return "other"

    x: Any = RemoteTensor(torch.randn(5, 4), client)
    target: Any = Other()

    assert F.cross_entropy(x, target) == "other"


@pytest.mark.parametrize("place", ["input", "target", "weight", "all"])
def test_any_place(client: lossd.Client, place: str) -> None:
    """As input, target or weight, beside ordinary tensors: one call, an ordinary loss, and gradients of the tensor."""
    tensors: dict[str, Any] = {"input": torch.randn(5, 4, requires_grad=True), "target": Y, "weight": torch.rand(4)}
    given: dict[str, Any] = {
        name: RemoteTensor(one, client) if place in (name, "all") else one for name, one in tensors.items()
    }
    before = calls(client)
    loss = F.cross_entropy(**given)
    (found,) = torch.autograd.grad(loss, tensors["input"])
    expected = F.cross_entropy(**tensors)

    assert calls(client) == before + 1
    assert type(loss) is torch.Tensor
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(found, *torch.autograd.grad(expected, tensors["input"]))


def test_the_legacy_pair_and_modules(client: lossd.Client) -> None:
    """Whatever PyTorch's functions and modules pass on is understood."""
    x = torch.randn(5, 4)
    stand_in: Any = RemoteTensor(x, client)
    with pytest.warns(UserWarning, match="size_average and reduce"):
        summed = F.cross_entropy(stand_in, Y, None, False)
    module = torch.nn.CrossEntropyLoss(torch.rand(4), label_smoothing=0.1)

    torch.testing.assert_close(summed, F.cross_entropy(x, Y, reduction="sum"))
    torch.testing.assert_close(module(stand_in, Y), module(x, Y))


def test_two_clients_contradict(client: lossd.Client) -> None:
    """Tensors of different clients in one loss: which one is meant cannot be known."""
    x: Any = RemoteTensor(torch.randn(5, 4), client)
    target: Any = RemoteTensor(Y, lossd.Client("127.0.0.1:9"))

    with pytest.raises(ValueError, match="of tensors of different clients"):
        F.cross_entropy(x, target)


def test_inside_the_mode(client: lossd.Client) -> None:
    """A tensor's own client comes before that of `with remote`."""
    x: Any = RemoteTensor(torch.randn(5, 4), client)
    before = calls(client)
    with remote(lossd.Client("127.0.0.1:9")):
        F.cross_entropy(x, Y)

    assert calls(client) == before + 1


def test_what_is_no_tensor_is_refused(client: lossd.Client) -> None:
    """Where the RemoteTensor is made."""
    with pytest.raises(TypeError, match=r"RemoteTensor takes a torch.Tensor, not list"):
        RemoteTensor([1.0], client)  # type: ignore[arg-type]
