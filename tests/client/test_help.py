"""What help() and an editor show of a method: every option, its default, its meaning."""

from __future__ import annotations

import inspect
import pydoc
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch.nn.functional as F

import lossd
from lossd import aio_methods
from lossd.methods import Methods
from lossd.request.build import METHODS, build, option_names

X = np.full((2, 3), 0.5, np.float32)
Y = np.zeros(2, np.int64)
CLIENTS = (lossd.Client, lossd.aio.Client)
TORCH: dict[str, Any] = {
    "cross_entropy": F.cross_entropy,
    "bce": F.binary_cross_entropy,
    "bce_with_logits": F.binary_cross_entropy_with_logits,
    "kl_divergence": F.kl_div,
    "nll": F.nll_loss,
}


def options(method: str, client: type = lossd.Client) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(getattr(client, method)).parameters
    return {name: one for name, one in parameters.items() if one.kind is inspect.Parameter.KEYWORD_ONLY}


class Recorded(Methods):
    """Calls nobody: what would be asked, as build takes it."""

    def _evaluate(self, method: str, operands: tuple[Any, ...], options: Any, timeout: Any) -> Any:
        return method, operands, dict(options)

    def _activate(self, method: str, operand: Any, options: Any, timeout: Any) -> Any:
        return method, (operand,), dict(options)

    def _mapped(self, *arguments: Any) -> Iterator[Any]:
        raise NotImplementedError


def operands(method: str) -> tuple[Any, ...]:
    second = Y if method in ("cross_entropy", "nll") else X
    return (X, second)[: len(METHODS[method].tensors)]


@pytest.mark.parametrize("client", CLIENTS, ids=["blocking", "awaitable"])
@pytest.mark.parametrize("method", METHODS)
def test_the_signature_is_what_the_contract_has(client: type, method: str) -> None:
    """No option less, none more: a new field of a message fails here until its method has it."""
    assert set(options(method, client)) == set(option_names(method))


@pytest.mark.parametrize("client", CLIENTS, ids=["blocking", "awaitable"])
@pytest.mark.parametrize("method", METHODS)
def test_help_has_every_option_with_default_and_meaning(client: type, method: str) -> None:
    """In the signature and in the text."""
    text = pydoc.plain(pydoc.render_doc(getattr(client, method)))

    for name, parameter in options(method, client).items():
        assert f"= {parameter.default!r}" in text
        assert f"{name}: {parameter.annotation!r} = {parameter.default!r}" in text
        assert any(line.strip().startswith(f"{name}: ") and len(line.split()) > 3 for line in text.splitlines()[2:])


def test_both_clients_say_the_same() -> None:
    """Signatures and texts."""
    for method in METHODS:
        one, other = getattr(lossd.Client, method), getattr(lossd.aio.Client, method)
        assert inspect.signature(one) == inspect.signature(other)
        assert inspect.getdoc(one) == inspect.getdoc(other)
        assert inspect.iscoroutinefunction(other)


@pytest.mark.parametrize("method", TORCH)
def test_defaults_are_pytorchs(method: str) -> None:
    """Of every option that PyTorch's function has too."""
    theirs = inspect.signature(TORCH[method]).parameters
    shared = {name: one.default for name, one in options(method).items() if name in theirs}

    assert {name: theirs[name].default for name in shared} == shared
    assert "reduction" in shared


@pytest.mark.parametrize("method", METHODS)
def test_what_is_left_alone_is_not_sent(method: str) -> None:
    """Nothing of a default is on the wire, and small calls are found again by having no options."""
    assert getattr(Recorded(), method)(*operands(method))[2] == {}


@pytest.mark.parametrize("method", METHODS)
def test_none_is_the_default(method: str) -> None:
    """For every option: the request is the one without options."""
    given = dict.fromkeys(options(method))
    given.pop("timeout", None)
    name, tensors, asked = getattr(Recorded(), method)(*operands(method), **given)
    own = {key: asked.pop(key) for key in ("transport", "progress") if key in asked}

    assert set(own.values()) <= {None}
    assert build(name, *tensors, **asked).body() == build(method, *operands(method)).body()


@pytest.mark.parametrize("method", METHODS)
def test_a_default_that_is_given_means_the_same(method: str) -> None:
    """Whether or not it is sent, the server is asked for the same."""
    given = {name: one.default for name, one in options(method).items() if name not in ("transport", "timeout")}
    asked = getattr(Recorded(), method)(*operands(method), **given)[2]

    assert asked == {}


@pytest.mark.parametrize("method", METHODS)
def test_every_option_arrives(method: str) -> None:
    """By its own name, whatever it is."""
    given = {name: object() for name in options(method) if name != "timeout"}

    assert getattr(Recorded(), method)(*operands(method), **given)[2] == given


@pytest.mark.parametrize("methods", [Methods, aio_methods.Methods])
def test_map_has_its_own_options(methods: type) -> None:
    """Beside those of its method."""
    parameters = inspect.signature(methods.map).parameters  # type: ignore[attr-defined]

    assert {name: one.default for name, one in parameters.items() if one.default is not inspect.Parameter.empty} == {
        "window": 1024,
        "errors": "raise",
        "timeout": None,
        "transport": "auto",
    }


def test_an_option_that_is_nearly_one_is_told_before_anything_is_asked() -> None:
    """With the one that was likely meant."""
    with pytest.raises(
        TypeError, match=r"nll\(\) got an unexpected keyword argument 'wieght'; did you mean 'weight'\?"
    ):
        Recorded().nll(X, Y, wieght=Y)  # type: ignore[call-overload]


def test_the_legacy_pair_reaches_its_warning() -> None:
    """As in PyTorch; it is the caller's line that is named."""
    with warnings.catch_warnings(record=True) as caught, lossd.Client("127.0.0.1:1", timeout=0.01) as client:
        warnings.simplefilter("always")
        with pytest.raises(lossd.Unavailable):
            client.bce(X, X, size_average=False)

    assert [one.filename for one in caught] == [__file__]
