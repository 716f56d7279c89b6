"""PyTorch's protocol for stand-ins: torch.nn.functional's losses computed by the server without a change of code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from lossd.client import Client
from lossd.torch import functional
from lossd.torch.default_client import number_of

# What each function is replaced by. Everything that is not here stays as it is.
HANDLED: Mapping[Callable[..., Any], Callable[..., Tensor]] = {
    F.cross_entropy: functional.cross_entropy,
    F.nll_loss: functional.nll_loss,
    F.binary_cross_entropy: functional.binary_cross_entropy,
    F.binary_cross_entropy_with_logits: functional.binary_cross_entropy_with_logits,
    F.kl_div: functional.kl_div,
}


class remote(TorchFunctionMode):  # a word that is read: with remote(client)
    """with remote(client): PyTorch's losses, and the modules that call them, are computed by the server.

    client: by default that of `lossd.torch.set_client`, or one for LOSSD_SERVER. It holds in this thread, and costs
    every call of PyTorch inside of it a microsecond or two: put it round the line of the loss.
    """

    def __init__(self, client: Client | None = None) -> None:
        super().__init__()
        number_of(client)
        self.client = client

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        handled = HANDLED.get(func)
        if handled is None or any(not issubclass(kind, Tensor) for kind in types):
            # Also where an operand is a stand-in of somebody else's: its own protocol decides.
            return func(*args, **(kwargs or {}))
        return handled(*args, **(kwargs or {}), client=self.client)


class RemoteTensor:
    """RemoteTensor(tensor, client): a tensor whose losses are computed by the server.

    It goes where torch.nn.functional's losses, and the modules that call them, take a tensor: as input, target or
    weight, beside ordinary tensors. The loss is an ordinary tensor, and backward leads to `tensor`. It is no tensor
    itself: any other function of PyTorch's is a TypeError; use `remote_tensor.tensor`.
    """

    def __init__(self, tensor: Tensor, client: Client | None = None) -> None:
        if not isinstance(tensor, Tensor):
            raise TypeError(f"RemoteTensor takes a torch.Tensor, not {type(tensor).__name__}")
        number_of(client)
        self.tensor = tensor
        self.client = client

    def __repr__(self) -> str:
        return f"RemoteTensor({self.tensor!r}, client={self.client!r})"

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        handled = HANDLED.get(func)
        if handled is None or not all(issubclass(kind, Tensor | RemoteTensor) for kind in types):
            return NotImplemented
        given = (*args, *(kwargs or {}).values())
        clients = {id(one.client): one.client for one in given if isinstance(one, RemoteTensor)}
        if len(clients) > 1:
            raise ValueError(f"{func.__name__} of tensors of different clients: give them one, or use `.tensor`")
        positional = [_plain(one) for one in args]
        named = {name: _plain(one) for name, one in (kwargs or {}).items()}
        return handled(*positional, **named, client=next(iter(clients.values())))


def _plain(value: Any) -> Any:
    return value.tensor if isinstance(value, RemoteTensor) else value
