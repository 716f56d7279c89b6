"""What PyTorch refuses is refused by the same exception; what lossd alone refuses names its field."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import lossd
from tests.torch.losses import backward
from tests.torch.routes import ROUTES, Route, local

X = torch.linspace(-1, 1, 12).reshape(4, 3)
Y = torch.tensor([0, 1, 2, 0])
P = torch.softmax(X, 1)
ONES = torch.ones(3)

# Method, input, target, options: all are errors in PyTorch.
REFUSED: dict[str, tuple[str, Any, Any, dict[str, Any]]] = {
    "class too large": ("cross_entropy", X, torch.tensor([0, 1, 2, 7]), {}),
    "class below zero": ("cross_entropy", X, torch.tensor([0, 1, -1, 0]), {}),
    "class of nll": ("nll", X, torch.tensor([0, 1, 2, 7]), {}),
    "batches differ": ("cross_entropy", X, Y[:3], {}),
    "batches of nll differ": ("nll", X, Y[:3], {}),
    "pixels differ": ("cross_entropy", torch.zeros(2, 3, 4), torch.zeros(2, 5, dtype=torch.long), {}),
    "float classes": ("cross_entropy", X, Y.float(), {}),
    "int32 classes": ("cross_entropy", X, Y.int(), {}),
    "int16 classes": ("nll", X, Y.short(), {}),
    "bool classes": ("cross_entropy", X, Y > 0, {}),
    "integer distribution": ("cross_entropy", X, torch.ones(4, 3, dtype=torch.long), {}),
    "no dimension": ("cross_entropy", torch.tensor(1.0), torch.tensor(0), {}),
    "nll without dimension": ("nll", torch.tensor(1.0), torch.tensor(0), {}),
    "integer logits": ("cross_entropy", X.long(), Y, {}),
    "integer log-probabilities": ("nll", X.long(), Y, {}),
    "integer BCE logits": ("bce_with_logits", X.long(), Y, {}),
    "complex logits": ("cross_entropy", X.to(torch.complex64), Y, {}),
    "unknown reduction": ("cross_entropy", X, Y, {"reduction": "avg"}),
    "unknown reduction of nll": ("nll", X, Y, {"reduction": "avg"}),
    "unknown reduction of bce": ("bce", P, P, {"reduction": "avg"}),
    "unknown reduction of logits": ("bce_with_logits", X, P, {"reduction": "avg"}),
    "unknown reduction of kl_div": ("kl_divergence", X, P, {"reduction": "avg"}),
    "batchmean elsewhere": ("cross_entropy", X, Y, {"reduction": "batchmean"}),
    "reduction in capitals": ("cross_entropy", X, Y, {"reduction": "MEAN"}),
    "smoothing beyond one": ("cross_entropy", X, Y, {"label_smoothing": 1.5}),
    "weight too short": ("cross_entropy", X, Y, {"weight": ONES[:2]}),
    "weight of two dimensions": ("cross_entropy", X, Y, {"weight": torch.ones(1, 3)}),
    "weight of nll too short": ("nll", X, Y, {"weight": ONES[:2]}),
    "ignored distribution": ("cross_entropy", X, P, {"ignore_index": 0}),
    "probability above one": ("bce", P + 1, P, {}),
    "NaN probability": ("bce", P * float("nan"), P, {}),
    "target above one": ("bce", P, P + 1, {}),
    "shapes of bce": ("bce", P, ONES, {}),
    "shapes of logits": ("bce_with_logits", X, ONES, {}),
    "shapes of kl_div": ("kl_divergence", X, torch.ones(4), {}),
    "weight of bce": ("bce", P, P, {"weight": torch.ones(7)}),
    "weight of bce with more dimensions": ("bce", P, P, {"weight": torch.ones(5, 4, 3)}),
    "weight of logits": ("bce_with_logits", X, P, {"weight": torch.ones(7)}),
    "pos_weight": ("bce_with_logits", X, P, {"pos_weight": torch.ones(7)}),
    "pos_weight with more dimensions": ("bce_with_logits", X, P, {"pos_weight": torch.ones(5, 4, 3)}),
    "integer target of kl_div": ("kl_divergence", X, torch.ones(4, 3, dtype=torch.long), {}),
    "a list for a target": ("cross_entropy", X, [0, 1, 2, 0], {}),
    "None for a target": ("cross_entropy", X, None, {}),
    "a number for a weight": ("cross_entropy", X, Y, {"weight": 2.0}),
    "a word for ignore_index": ("cross_entropy", X, Y, {"ignore_index": "none"}),
    "a fraction for ignore_index": ("cross_entropy", X, Y, {"ignore_index": 0.5}),
    "a word for label_smoothing": ("cross_entropy", X, Y, {"label_smoothing": "much"}),
}
# These, too, but lossd computes them: floats may be mixed, and bool and integer targets are 0 and 1.
COMPUTED: dict[str, tuple[str, Any, Any, dict[str, Any]]] = {
    "a float64 weight": ("cross_entropy", X, Y, {"weight": ONES.double()}),
    "float64 target of bce": ("bce", P, P.double(), {}),
    "integer target of bce": ("bce", P, torch.ones(4, 3, dtype=torch.long), {}),
    "integer target of logits": ("bce_with_logits", X, torch.ones(4, 3, dtype=torch.long), {}),
}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """kl_div warns of its mean."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


@pytest.fixture(params=ROUTES)
def route(request: pytest.FixtureRequest) -> Route:
    return ROUTES[request.param]


def caught(route: Route, client: lossd.Client, case: tuple[str, Any, Any, dict[str, Any]]) -> BaseException:
    method, input, target, options = case
    with pytest.raises(Exception) as found:  # noqa: PT011  # whichever it is
        route(client, method, input, target, **options)
    return found.value


@pytest.mark.parametrize("name", REFUSED)
def test_the_exception_is_pytorchs(client: lossd.Client, name: str, route: Route) -> None:
    """Who catches what PyTorch raises catches it here: an IndexError for a class, a ValueError for batches."""
    theirs, ours = caught(local, client, REFUSED[name]), caught(route, client, REFUSED[name])

    # "not implemented for 'Long'", of a kernel, is a RuntimeError too.
    kind = RuntimeError if isinstance(theirs, NotImplementedError) else type(theirs)
    assert isinstance(ours, kind), (theirs, ours)


@pytest.mark.parametrize("name", COMPUTED)
def test_mixed_dtypes_are_computed(client: lossd.Client, name: str, route: Route) -> None:
    """Where PyTorch refuses a dtype that lossd takes: its number or PyTorch's exception, nothing else."""
    theirs = caught(local, client, COMPUTED[name])
    method, input, target, options = COMPUTED[name]
    try:
        found = route(client, method, input, target, **options)
    except Exception as error:
        assert isinstance(error, type(theirs))  # either is right
        return
    wide = {key: value.double() if isinstance(value, Tensor) else value for key, value in options.items()}
    wide_target = target if target.dtype == torch.long and method == "cross_entropy" else target.double()
    expected = local(client, method, input.double(), wide_target, **wide)

    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-7)


def test_a_refusal_leaves_the_client_usable(client: lossd.Client, route: Route) -> None:
    """After an error the next call is answered; nothing of the failed one was left in the graph."""
    caught(route, client, REFUSED["class too large"])
    x = X.clone().requires_grad_()
    backward(route(client, "cross_entropy", x, Y))

    assert x.grad is not None


def test_a_server_that_is_not_there(route: Route) -> None:
    """Unavailable, with what to do: lossd's own error, at once where connect_timeout says so."""
    with lossd.Client("127.0.0.1:9", connect_timeout=0.2) as nowhere, pytest.raises(lossd.Unavailable) as caught:
        route(nowhere, "cross_entropy", X, Y)

    assert "lossd serve" in str(caught.value)


@pytest.mark.parametrize("legacy", [{"size_average": False}, {"reduce": False}, {"size_average": True, "reduce": True}])
def test_the_legacy_pair_warns(client: lossd.Client, route: Route, legacy: dict[str, bool]) -> None:
    """size_average and reduce mean what they mean in PyTorch, and warn once."""
    with pytest.warns(UserWarning, match="size_average and reduce") as theirs:
        expected = local(client, "cross_entropy", X, Y, **legacy)
    with pytest.warns(UserWarning, match="size_average and reduce") as ours:
        found = route(client, "cross_entropy", X, Y, **legacy)

    assert len(ours) == len(theirs)
    assert str(ours[0].message) == str(theirs[0].message)
    torch.testing.assert_close(found, expected)


def test_kl_div_warns_of_its_mean(client: lossd.Client, route: Route) -> None:
    """Once, as PyTorch does: `batchmean` is the mathematical one."""
    with pytest.warns(UserWarning, match="batchmean") as found:
        route(client, "kl_divergence", X, P)

    assert len(found) == 1
