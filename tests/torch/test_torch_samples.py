"""PyTorch's own samples (OpInfo and ModuleInfo) of its five losses through lossd.torch, by every route."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from functools import cache, cached_property
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import lossd
from tests.conformance import samples
from tests.conformance.pytorch import array
from tests.conformance.samples import DTYPES, MODULES, OPERATIONS, Sample
from tests.oracle import REFERENCES
from tests.torch.accepted_errors import F64, assert_near, wide
from tests.torch.losses import backward
from tests.torch.routes import ROUTES, local
from tests.torch.tally import TALLY

PLACES = [*((name, False) for name in OPERATIONS), *((name, True) for name in MODULES)]


class Expected:
    """What should come of a sample: PyTorch's own in its dtype, where it has it, its float64, and the closed form."""

    def __init__(self, sample: Sample, dtype: torch.dtype) -> None:
        self.sample = sample
        wide_sample = sample.converted(torch.float64)
        shape = wide_sample.compute(None)["loss"].shape
        self.upstream = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
        self.own = own(sample, self.upstream)
        found = wide_sample.compute(self.upstream.to(torch.float64))
        self.wide: dict[str, F64] = {name: wide(value) for name, value in found.items()}

    @cached_property
    def closed(self) -> dict[str, tuple[F64, float]]:
        """By 50 digits, and the size of the terms where they cancel."""
        sample = self.sample
        options = {key: array(value) if isinstance(value, Tensor) else value for key, value in sample.options.items()}
        options |= {"grad_output": array(self.upstream)}
        exact = REFERENCES[sample.method](array(sample.input), array(sample.target), **options)
        truth = {name: exact.grads[name] for name in sample.differentiable} | {"loss": exact.loss}
        return {name: (one.astype(np.float64), float(exact.sizes.get(name, 0))) for name, one in truth.items()}

    def assert_near(self, part: str, actual: Tensor, what: str, *, exactly: bool) -> None:
        """exactly: by the closed form at once, which takes long for large samples; else where float64 is not enough."""
        pytorchs = None if self.own is None else self.own[part]
        if not exactly:
            try:
                assert_near(what, actual, self.wide[part], pytorchs)
            except AssertionError:
                exactly = True
        if exactly:
            truth, size = self.closed[part]
            assert_near(what, actual, truth, pytorchs, size)


def own(sample: Sample, upstream: Tensor) -> dict[str, Tensor] | None:
    """PyTorch's loss and gradients. None where it lacks that dtype."""
    try:
        return sample.compute(upstream)
    except NotImplementedError:
        return None


@cache
def found(name: str, dtype: torch.dtype, of_modules: bool) -> list[Expected]:
    """The samples of a name."""
    made: Iterable[Sample] = samples.of_module(name, dtype) if of_modules else samples.of_operation(name, dtype)
    return [Expected(sample, dtype) for sample in made]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name, of_modules", PLACES, ids=[name for name, _ in PLACES])
@pytest.mark.parametrize("route", ROUTES)
def test_samples_have_pytorchs_losses_and_gradients(
    client: lossd.Client, route: str, name: str, of_modules: bool, dtype: torch.dtype
) -> None:
    """Loss and gradients have PyTorch's dtype and shape, and are right to the accepted error."""
    compared = 0
    for expected in found(name, dtype, of_modules):
        compare(client, route, expected, exactly=not of_modules)
        compared += 1
    kind = "ModuleInfo" if of_modules else "OpInfo"
    TALLY.samples[f"{kind}, {route}, {str(dtype).removeprefix('torch.')}"] += compared

    assert compared > 0


def compare(client: lossd.Client, route: str, expected: Expected, *, exactly: bool) -> None:
    sample = expected.sample
    leaves = {name: getattr(sample, name).detach().clone().requires_grad_() for name in sample.differentiable}
    target = leaves.get("target", sample.target)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # size_average, reduce, and kl_div's mean
        loss = ROUTES[route](client, sample.method, leaves["input"], target, **sample.options)
    assert loss.requires_grad
    backward(loss, expected.upstream)

    actual: dict[str, Any] = {"loss": loss} | {name: leaf.grad for name, leaf in leaves.items()}
    for part, value in actual.items():
        expected.assert_near(part, value, f"{part} of {sample.name}, {route}", exactly=exactly)


@pytest.mark.parametrize("route", ROUTES)
def test_digits_that_pytorch_loses_are_kept(client: lossd.Client, route: str) -> None:
    """A confident row and a certain negative in float32: log1p(e⁻³⁰), where PyTorch's loss and gradient are 0."""
    small = math.log1p(math.exp(-30.0))
    for method, input, target in (
        ("cross_entropy", torch.tensor([[30.0, 0.0]]), torch.tensor([0])),
        ("bce_with_logits", torch.tensor([-30.0]), torch.tensor([0.0])),
    ):
        leaf = input.requires_grad_()
        loss = ROUTES[route](client, method, leaf, target)
        (gradient,) = torch.autograd.grad(loss, leaf)

        assert local(client, method, leaf, target) == 0
        assert loss.item() == pytest.approx(small, rel=1e-6)
        assert gradient.abs().max().item() == pytest.approx(small, rel=1e-6)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_error_samples_raise_pytorchs_exceptions(client: lossd.Client, dtype: torch.dtype) -> None:
    """What PyTorch's error samples refuse raises the same exception on every route."""
    refused = [error for name in MODULES for error in samples.errors_of_module(name, dtype)]
    refused += [error for name in OPERATIONS for error in samples.errors_of_operation(name)]

    assert refused
    for sample in refused:
        call = (client, sample.method, sample.input, sample.target)
        with pytest.raises(Exception) as theirs:  # noqa: PT011  # whichever it is
            local(*call, **sample.options)
        for route, compute in ROUTES.items():
            with pytest.raises(theirs.type) as ours:
                compute(*call, **sample.options)
            assert ours.type is theirs.type, f"{sample.name}, {route}"
            same = "PyTorch's sentence" if str(ours.value) == str(theirs.value) else "a sentence of its own"
            TALLY.refused[f"{route}, {same}"] += 1
