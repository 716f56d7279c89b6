"""What type checkers know of a call. mypy reads the assertions (`make check`); run, they hold what it was told."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator, Iterator
from typing import Any, assert_type

import numpy as np
import numpy.typing as npt
import pytest
import torch

import lossd
from lossd import aio_methods
from lossd.methods import Methods
from lossd.request.tensors import take
from lossd_server.embedded import EmbeddedServer

Array = npt.NDArray[Any]
X = np.full((2, 3), 0.5, np.float32)
Y = np.zeros(2, np.int64)
T = torch.full((2, 3), 0.5)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with EmbeddedServer() as server:
        yield server.address


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[lossd.Client]:
    with lossd.Client(address) as client:
        yield client


def test_without_a_gradient_there_is_none(client: lossd.Client) -> None:
    """Absent, False, None, or that of another tensor."""
    absent = client.cross_entropy(X, Y, label_smoothing=0.1)
    false, none = client.entropy(X, grad=False), client.bce(X, X, grad=None)
    other = client.bce_with_logits(X, X, grad="target")

    assert_type(absent, lossd.Result[None])
    assert_type(absent.grad, None)
    assert_type(false, lossd.Result[None])
    assert_type(none, lossd.Result[None])
    assert_type(other, lossd.Result[None])
    assert [one.grad for one in (absent, false, none, other)] == [None] * 4


def test_a_gradient_of_numpy_or_a_list_is_numpys(client: lossd.Client) -> None:
    """True, the input's name, or several names."""
    true = client.cross_entropy(X, Y, grad=True)
    named = client.nll(X, Y, grad="input")
    several = client.kl_divergence(X, X, grad=("input", "target"))
    listed = client.self_information([[0.5, 0.5]], grad=["input"])

    assert_type(true, lossd.Result[Array])
    assert_type(true.grad, Array)
    assert_type(named.grad, Array)
    assert_type(several.grad, Array)
    assert_type(listed.grad, Array)
    assert all(isinstance(one.grad, np.ndarray) for one in (true, named, several, listed))


def test_a_gradient_of_a_torch_tensor_is_a_torch_tensor(client: lossd.Client) -> None:
    """With all that editors know of it."""
    result = client.cross_entropy(T, Y, grad=True)

    assert_type(result, lossd.Result[torch.Tensor])
    assert_type(result.grad, torch.Tensor)
    assert isinstance(result.grad, torch.Tensor)


def test_a_flag_may_be_either(client: lossd.Client) -> None:
    """Nobody knows before the call."""
    for flag in (True, False):
        result = client.bce(X, X, grad=flag)

        assert_type(result, lossd.Result[Any])
        assert (result.grad is not None) == flag


def test_activations_are_the_kind_of_array_that_was_given(client: lossd.Client) -> None:
    """numpy's for numpy and lists, torch's for torch."""
    assert_type(client.softmax(X, dim=0), Array)
    assert_type(client.log_softmax([[1.0, 2.0]]), Array)
    assert_type(client.sigmoid(T), torch.Tensor)
    assert_type(client.log_sigmoid(T), torch.Tensor)
    assert isinstance(client.sigmoid(T), torch.Tensor)


def test_the_awaitable_client_knows_as_much(address: str) -> None:
    """The same, once awaited."""

    async def ask() -> None:
        async with lossd.aio.Client(address) as client:
            bare, graded = await client.cross_entropy(X, Y), await client.cross_entropy(X, Y, grad=True)
            tensor, value = await client.bce(T, X, grad=True), await client.softmax(T)

            assert_type(bare, lossd.Result[None])
            assert_type(graded, lossd.Result[Array])
            assert_type(tensor.grad, torch.Tensor)
            assert_type(value, torch.Tensor)
            assert bare.grad is None
            assert isinstance(graded.grad, np.ndarray)
            assert isinstance(tensor.grad, torch.Tensor)
            task = asyncio.create_task(client.entropy(X))
            assert_type(await task, lossd.Result[None])
            mapped = client.map("bce", [(X, X)], errors="yield")
            assert_type(mapped, AsyncIterator[lossd.Result[Any] | lossd.Error])
            assert [float(one) async for one in client.map("bce", [(X, X)])] == [float(await client.bce(X, X))]

    asyncio.run(ask())


def test_map_gives_results_or_errors(client: lossd.Client) -> None:
    """Errors where they are yielded; anything where the method is only known at run time."""
    name = str(np.array("entropy"))
    raised, given = client.map("entropy", [X], base=2), client.map("entropy", [X], errors="yield")

    assert_type(raised, Iterator[lossd.Result[Any]])
    assert_type(given, Iterator[lossd.Result[Any] | lossd.Error])
    assert_type(client.map(name, [X]), Iterator[Any])
    assert all(isinstance(one, lossd.Result) for one in (*raised, *given))


def test_none_and_texts_are_no_tensors(client: lossd.Client) -> None:
    """Type checkers say so, and so does the call."""
    with pytest.raises(lossd.InvalidArgument, match="input is None"):
        client.entropy(None)  # type: ignore[call-overload]
    with pytest.raises(lossd.InvalidArgument, match="target has dtype"):
        client.bce(X, "target")  # type: ignore[call-overload]
    with pytest.raises(lossd.InvalidArgument, match="input is None"):
        client.softmax(None)  # type: ignore[call-overload]


def test_what_no_method_takes_is_no_option(client: lossd.Client) -> None:
    """Type checkers know names and values."""
    with pytest.raises(TypeError, match="did you mean 'label_smoothing'"):
        client.cross_entropy(X, Y, lable_smoothing=0.1)  # type: ignore[call-overload]
    with pytest.raises(lossd.InvalidArgument, match="reduction must be"):
        client.bce(X, X, reduction="avg")  # type: ignore[call-overload]
    with pytest.raises(lossd.InvalidArgument, match="batchmean is not taken by BCE"):
        client.bce(X, X, reduction="batchmean")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="unexpected keyword argument 'weigth'; did you mean 'weight'"):
        list(client.map("nll", [(X, Y)], weigth=Y))  # type: ignore[call-overload]


def tensors() -> list[lossd.Tensor]:
    """Of every kind that a call takes."""
    return [
        X,
        np.float32(0.5),
        T,
        [0.5, 1],
        [[0.5], [1]],
        ((0.5, 1), (0, 1)),
        [X, X],
        0.5,
        True,
        array("d", [0.5]),
        bytearray(2),
        range(3),
    ]


def test_a_tensor_is_what_can_be_an_array() -> None:
    """Each is taken as it is."""
    assert [take("input", one).values.tolist() for one in tensors()] == [np.asarray(one).tolist() for one in tensors()]


def test_both_clients_have_the_same_methods() -> None:
    """One awaits what the other waits for."""
    assert {name for name in vars(aio_methods.Methods) if name[0] != "_"} == {
        name for name in vars(Methods) if name[0] != "_"
    }
