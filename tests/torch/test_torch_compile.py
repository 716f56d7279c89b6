"""torch.compile, torch.export and torch.library's own checks of the ops."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import lossd
import lossd.torch
from tests.torch.losses import NAMES_OF_CALLS, Call, backward, calls_of_losses
from tests.torch.routes import ROUTES, calls, local

COMPILER = pytest.param(
    "inductor", marks=pytest.mark.skipif(shutil.which("g++") is None, reason="inductor compiles with g++")
)
BACKENDS = ("eager", "aot_eager", COMPILER)
OPS = {"cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div"}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """kl_div warns of its mean; the compiler, of what is its own affair. Each test compiles anew."""
    torch.compiler.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Recorded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps what lossd's ops are called with."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "lossd":
            self.calls.append((func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))


def recorded(client: lossd.Client, call: Call, **options: Any) -> list[tuple[Any, tuple[Any, ...], dict[str, Any]]]:
    leaves = call.leaves
    mode = Recorded()
    with mode:
        call.compute(ROUTES["functional"], client, leaves, **options)
    return mode.calls


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("name", NAMES_OF_CALLS)
def test_ops_pass_pytorchs_checks(client: lossd.Client, name: str, reduction: str) -> None:
    """torch.library.opcheck: schema, autograd's registration, the fake kernel beside the real one, and AOT dispatch."""
    found = recorded(client, calls_of_losses()[name], reduction=reduction)

    assert found
    for op, arguments, keywords in found:
        fresh = tuple(one.detach().clone() if isinstance(one, Tensor) else one for one in arguments)
        torch.library.opcheck(op, fresh, keywords)


def test_every_loss_has_an_op(client: lossd.Client) -> None:
    """torch.ops.lossd has the five losses by PyTorch's names or by the client's, and functionals go through them."""
    used = {op.name() for call in calls_of_losses().values() for op, _, _ in recorded(client, call)}

    assert len(used) >= len(OPS), used


# Every loss as a function; two of them by the other ways, too: each compiles for a second.
COMPILED = [
    *(("functional", name) for name in NAMES_OF_CALLS),
    *((route, name) for route in ("module", "remote") for name in ("cross_entropy of classes", "kl_divergence")),
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("route, name", COMPILED)
def test_a_compiled_loss_is_one_graph_and_one_call(client: lossd.Client, name: str, route: str, backend: str) -> None:
    """fullgraph=True; forward and backward cost one call, and give PyTorch's loss and gradients."""
    call = calls_of_losses()[name]
    whole = torch.compile(lambda leaves: call.compute(ROUTES[route], client, leaves), fullgraph=True, backend=backend)
    backward(whole(call.leaves))  # compiles
    leaves, expected = call.leaves, call.leaves
    before = calls(client)

    loss = whole(leaves)
    backward(loss)

    assert calls(client) - before == 1
    theirs = call.compute(local, None, expected)
    backward(theirs)
    torch.testing.assert_close(loss, theirs, rtol=1e-12, atol=1e-12)
    for one in leaves:
        torch.testing.assert_close(leaves[one].grad, expected[one].grad, rtol=1e-12, atol=1e-12)


class Model(torch.nn.Module):
    """A layer and its loss, as training scripts compile them. No loss: PyTorch's function."""

    def __init__(self, loss: torch.nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layer = torch.nn.Linear(5, 7)
        self.loss = loss

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        logits = self.layer(x).relu()
        found: Tensor = F.cross_entropy(logits, y) if self.loss is None else self.loss(logits, y)
        return found


def trained(model: torch.nn.Module, compute: Any) -> list[Tensor]:
    """The parameters after three steps."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    generator = torch.Generator().manual_seed(4)
    for _ in range(3):
        x, y = torch.randn(11, 5, generator=generator), torch.randint(7, (11,), generator=generator)
        optimizer.zero_grad()
        backward(compute(x, y))
        optimizer.step()
    return [parameter.detach() for parameter in model.parameters()]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_compiled_model_trains_as_the_eager_one(client: lossd.Client, backend: str) -> None:
    """Model, loss and backward in one graph: three steps lead to the same parameters."""
    model = Model(lossd.torch.nn.CrossEntropyLoss(client=client))
    compiled = torch.compile(model, fullgraph=True, backend=backend)

    plain = Model()
    for ours, theirs in zip(trained(model, compiled), trained(plain, plain), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_compiled_model_under_the_mode(client: lossd.Client, backend: str) -> None:
    """`remote` round a compiled model that calls PyTorch's function: three steps, three calls, the same parameters."""
    model, plain = Model(), Model()
    compiled = torch.compile(model, fullgraph=True, backend=backend)

    def compute(x: Tensor, y: Tensor) -> Tensor:
        with lossd.torch.remote(client):
            found: Tensor = compiled(x, y)
            return found

    before = calls(client)
    found = trained(model, compute)

    assert calls(client) - before == 3
    for ours, theirs in zip(found, trained(plain, plain), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_compiled_model_after_the_mode_is_local(client: lossd.Client) -> None:
    """What was compiled inside `remote` is not kept for outside."""
    model = Model()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    x, y = torch.randn(2, 5), torch.tensor([1, 2])
    with lossd.torch.remote(client):
        compiled(x, y)
    before = calls(client)

    compiled(x, y)

    assert calls(client) == before


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_batches_of_another_size_are_compiled_once_more(client: lossd.Client, backend: str) -> None:
    """With dynamic shapes, sizes that differ share a graph, and their losses are right."""
    compiled = torch.compile(
        lambda x, y: lossd.torch.functional.cross_entropy(x, y, client=client),
        fullgraph=True, backend=backend, dynamic=True,
    )  # fmt: skip

    for rows in (2, 3, 5, 9, 17):
        x, y = torch.randn(rows, 4, requires_grad=True), torch.arange(rows) % 4
        torch.testing.assert_close(compiled(x, y), F.cross_entropy(x, y))


def test_an_exported_model_calls_the_server(client: lossd.Client) -> None:
    """torch.export keeps the op: the exported program has one, and its result is the eager one."""
    model = Model(lossd.torch.nn.CrossEntropyLoss(client=client))
    x, y = torch.randn(3, 5), torch.tensor([0, 1, 6])

    exported = torch.export.export(model, (x, y))

    ops = [node.target for node in exported.graph.nodes if str(node.target).startswith("lossd.")]
    assert len(ops) == 1
    torch.testing.assert_close(exported.module()(x, y), Model()(x, y))


def test_an_exported_model_with_sizes_left_open(client: lossd.Client) -> None:
    """Exported for four rows with dynamic shapes, run on nine."""
    model = Model(lossd.torch.nn.CrossEntropyLoss(client=client))
    free = {"x": {0: torch.export.Dim.AUTO}, "y": {0: torch.export.Dim.AUTO}}
    exported = torch.export.export(model, (torch.randn(4, 5), torch.arange(4)), dynamic_shapes=free)
    x, y = torch.randn(9, 5), torch.arange(9) % 7

    torch.testing.assert_close(exported.module()(x, y), Model()(x, y))


def test_checkpoints_and_autocast_inside_a_graph(client: lossd.Client) -> None:
    """A compiled step that recomputes its model under autocast: PyTorch's gradients."""
    x, y = torch.randn(4, 5), torch.arange(4)

    def gradient(model: Model) -> Tensor:
        def step(at: Tensor) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                found: Tensor = checkpoint(model, at, y, use_reentrant=False)
            return found

        leaf = x.clone().requires_grad_()
        loss = torch.compile(step, fullgraph=True, backend="aot_eager")(leaf)
        return torch.autograd.grad(loss, leaf)[0]

    ours = gradient(Model(lossd.torch.nn.CrossEntropyLoss(client=client)))
    torch.testing.assert_close(ours, gradient(Model()))
