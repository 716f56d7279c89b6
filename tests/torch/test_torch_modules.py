"""Modules and functions as PyTorch's: signatures, state, texts, copies; what the mode and RemoteTensor leave alone."""

from __future__ import annotations

import copy
import inspect
import pickle
from contextlib import nullcontext
from functools import partial
from io import BytesIO
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import lossd
import lossd.torch
from lossd.torch import RemoteTensor
from tests.torch.losses import backward
from tests.torch.routes import NAMES, calls

FUNCTIONS = [function for function, _ in NAMES.values()]
MODULES = [module for _, module in NAMES.values()]
X, Y = torch.linspace(-1, 1, 12).reshape(4, 3), torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signatures_of_functions(name: str) -> None:
    """PyTorch's parameters in its order with its defaults, then `client` by keyword."""
    ours = dict(inspect.signature(getattr(lossd.torch.functional, name)).parameters)
    theirs = inspect.signature(getattr(F, name)).parameters
    client = ours.pop("client")

    assert client.kind is inspect.Parameter.KEYWORD_ONLY
    assert client.default is None
    assert [(one.name, one.default, one.kind) for one in ours.values()] == [
        (one.name, one.default, one.kind) for one in theirs.values()
    ]


@pytest.mark.parametrize("name", MODULES)
def test_signatures_of_modules(name: str) -> None:
    """The same for constructors; and each is an instance of PyTorch's class, which code may ask for."""
    module, pytorchs = getattr(lossd.torch.nn, name), getattr(nn, name)
    ours, theirs = dict(inspect.signature(module).parameters), inspect.signature(pytorchs).parameters

    assert ours.pop("client").default is None
    assert [(one.name, one.default) for one in ours.values()] == [(one.name, one.default) for one in theirs.values()]
    assert isinstance(module(), nn.Module)


@pytest.mark.parametrize("name", MODULES)
def test_state_dicts_are_interchangeable(client: lossd.Client, name: str) -> None:
    """PyTorch's loads into ours and ours into PyTorch's, weights included."""
    options = {} if name == "KLDivLoss" else {"weight": torch.tensor([1.0, 2.0, 3.0])}
    if name == "BCEWithLogitsLoss":
        options["pos_weight"] = torch.tensor([3.0, 2.0, 1.0])
    ours, theirs = getattr(lossd.torch.nn, name)(**options, client=client), getattr(nn, name)(**options)
    zeros = {key: torch.zeros_like(value) for key, value in options.items()}

    assert ours.state_dict().keys() == theirs.state_dict().keys() == options.keys()
    ours.load_state_dict(getattr(nn, name)(**zeros).state_dict())
    theirs.load_state_dict(ours.state_dict())
    for value in theirs.state_dict().values():
        assert not value.any()


@pytest.mark.parametrize("name", MODULES)
def test_texts_are_pytorchs(client: lossd.Client, name: str) -> None:
    """repr() of a module, which logs compare; with the client where it has one."""
    module = getattr(lossd.torch.nn, name)

    assert repr(module()) == repr(getattr(nn, name)())
    assert repr(module(client=client)) == f"{name}(client={client!r})"


def test_a_module_is_copied_moved_and_pickled(client: lossd.Client) -> None:
    """With its weight; deepcopy as EMA and Lightning make it, .double() and .to(), torch.save of a whole model."""
    loss = lossd.torch.nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]), reduction="sum", client=client)
    expected = F.cross_entropy(X, Y, torch.tensor([1.0, 2.0, 3.0]), reduction="sum")

    torch.testing.assert_close(copy.deepcopy(loss)(X, Y), expected)
    torch.testing.assert_close(copy.deepcopy(loss).double()(X.double(), Y), expected.double())
    file = BytesIO()
    torch.save(nn.Sequential(loss), file)
    file.seek(0)
    assert torch.load(file, weights_only=False)[0].reduction == "sum"


def test_a_pickled_module_asks_its_own_server() -> None:
    """A client's address goes with it where it has one that another process can reach."""
    loss = lossd.torch.nn.BCELoss(client=lossd.Client("127.0.0.1:50099"))

    assert isinstance(pickle.loads(pickle.dumps(loss)), lossd.torch.nn.BCELoss)


def test_client_is_a_client() -> None:
    """What is no client is a TypeError that says what is wanted, not a failure of the call."""
    with pytest.raises(TypeError, match=r"lossd\.Client"):
        lossd.torch.functional.cross_entropy(X, Y, client="127.0.0.1:50051")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"lossd\.Client"):
        lossd.torch.nn.CrossEntropyLoss(client="127.0.0.1:50051")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"lossd\.Client"):
        lossd.torch.remote("127.0.0.1:50051")  # type: ignore[arg-type]


def test_the_mode_leaves_other_functions_alone(client: lossd.Client) -> None:
    """Only the five losses go to the server: what PyTorch computes of other functions, it still does."""
    before = calls(client)
    with lossd.torch.remote(client):
        model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
        loss = F.mse_loss(model(X), X) + F.smooth_l1_loss(X, X + 1) + F.log_softmax(X, 1).sum() + F.softmax(X, 1).sum()
        backward(loss)

    assert calls(client) == before


def test_the_mode_is_one_call_a_loss(client: lossd.Client) -> None:
    """F.cross_entropy under the mode is one call, though PyTorch's own calls others inside."""
    before = calls(client)
    with lossd.torch.remote(client):
        F.cross_entropy(X, Y)
        F.nll_loss(X, Y)
        F.kl_div(X, X.softmax(1), reduction="sum")
        F.binary_cross_entropy(X.sigmoid(), X.sigmoid())
        F.binary_cross_entropy_with_logits(X, X.sigmoid())

    assert calls(client) - before == 5


def test_a_remote_tensor_handles_the_losses_alone(client: lossd.Client) -> None:
    """Of other functions NotImplemented is returned, which PyTorch makes a TypeError of."""
    remote: Any = RemoteTensor(X, client)
    for function in (torch.sin, torch.sum, F.relu):
        with pytest.raises(TypeError, match=r"NotImplemented|no implementation found"):
            function(remote)
    with pytest.raises(TypeError, match=r"NotImplemented|no implementation found"):
        torch.add(remote, X)


def test_a_remote_tensor_in_any_place(client: lossd.Client) -> None:
    """As input, target or weight, or as more of them: the loss is an ordinary tensor, computed in one call."""
    p, w = X.softmax(1), torch.tensor([1.0, 2.0, 3.0])
    expected = F.cross_entropy(X, p, w)
    for x, t, weight in (
        (RemoteTensor(X, client), p, w),
        (X, RemoteTensor(p, client), w),
        (X, p, RemoteTensor(w, client)),
        (RemoteTensor(X, client), RemoteTensor(p, client), w),
    ):
        before = calls(client)
        loss = F.cross_entropy(x, t, w if weight is w else weight)  # type: ignore[arg-type]

        assert type(loss) is torch.Tensor
        assert calls(client) - before == 1
        torch.testing.assert_close(loss, expected)


def test_another_class_of_the_protocol(client: lossd.Client) -> None:
    """A second stand-in in the same call is asked when RemoteTensor does not know it, as the protocol has it."""

    class Other:
        @classmethod
        def __torch_function__(cls, func: object, types: object, args: object = (), kwargs: object = None) -> str:
            return "the other's"

    input: Any = RemoteTensor(X, client)
    target: Any = Other()

    assert F.cross_entropy(input, target) == "the other's"


@pytest.mark.parametrize("name", ["functional", "remote", "RemoteTensor"])
def test_arguments_by_position_and_by_keyword(client: lossd.Client, name: str) -> None:
    """PyTorch's order, legacy pair included, or names alone, the tensors' too: as functions under either protocol."""
    w = torch.tensor([1.0, 2.0, 3.0])
    x: Any = RemoteTensor(X, client) if name == "RemoteTensor" else X
    function: Any = F.cross_entropy
    if name == "functional":
        function = partial(lossd.torch.functional.cross_entropy, client=client)
    with lossd.torch.remote(client) if name == "remote" else nullcontext():
        before = calls(client)
        by_position = function(x, Y, w, None, 1, None, "sum", 0.1)
        by_keyword = function(target=Y, input=x, weight=w, ignore_index=1, reduction="sum", label_smoothing=0.1)

    assert calls(client) - before == 2
    expected = F.cross_entropy(X, Y, w, ignore_index=1, reduction="sum", label_smoothing=0.1)
    torch.testing.assert_close(by_position, expected)
    torch.testing.assert_close(by_keyword, expected)
