"""PyTorch's own samples (OpInfo and ModuleInfo) of its five losses through lossd.torch, by every route."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from functools import cache
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
from tests.torch.routes import ROUTES, local
from tests.torch.tally import TALLY

# PyTorch's float64 is off by no more than this, in parts of the largest entry: where no closed form stands beside it.
AGREED = 1e-12
PLACES = [*((name, False) for name in OPERATIONS), *((name, True) for name in MODULES)]


class Expected:
    """Of one sample: the truth, PyTorch's own where it has it in that dtype, the sizes of terms that cancel."""

    def __init__(self, sample: Sample, dtype: torch.dtype, *, closed: bool) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape = sample.converted(torch.float64).compute(None)["loss"].shape
        generator = torch.Generator().manual_seed(1)
        self.upstream = torch.randn(shape, generator=generator).to(dtype)
        self.own = own(sample, self.upstream)
        self.slack = 0.0 if closed else AGREED
        self.sizes: dict[str, float] = {}
        if not closed:
            found = sample.converted(torch.float64).compute(self.upstream.to(torch.float64))
            self.truth: dict[str, F64] = {name: wide(value) for name, value in found.items()}
            return
        options = {key: array(value) if isinstance(value, Tensor) else value for key, value in sample.options.items()}
        options |= {"grad_output": array(self.upstream)}
        exact = REFERENCES[sample.method](array(sample.input), array(sample.target), **options)
        self.truth = {name: exact.grads[name].astype(np.float64) for name in sample.differentiable}
        self.truth["loss"] = exact.loss.astype(np.float64)
        self.sizes = {name: float(size) for name, size in exact.sizes.items()}


def own(sample: Sample, upstream: Tensor) -> dict[str, Tensor] | None:
    """PyTorch's loss and gradients. None where it lacks that dtype."""
    try:
        return sample.compute(upstream)
    except NotImplementedError:
        return None


@cache
def found(name: str, dtype: torch.dtype, of_modules: bool) -> list[tuple[Sample, Expected]]:
    """The samples of a name, and what should come of each: closed forms for OpInfo's, which are small."""
    made: Iterable[Sample] = samples.of_module(name, dtype) if of_modules else samples.of_operation(name, dtype)
    return [(sample, Expected(sample, dtype, closed=not of_modules)) for sample in made]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name, of_modules", PLACES, ids=[name for name, _ in PLACES])
@pytest.mark.parametrize("route", ROUTES)
def test_samples_have_pytorchs_losses_and_gradients(
    client: lossd.Client, route: str, name: str, of_modules: bool, dtype: torch.dtype
) -> None:
    """Loss and gradients have PyTorch's dtype and shape, and are right to the accepted error."""
    compared = 0
    for sample, expected in found(name, dtype, of_modules):
        compare(client, route, sample, expected)
        compared += 1
    kind = "ModuleInfo" if of_modules else "OpInfo"
    TALLY.samples[f"{kind}, {route}, {str(dtype).removeprefix('torch.')}"] += compared

    assert compared > 0


def compare(client: lossd.Client, route: str, sample: Sample, expected: Expected) -> None:
    leaves = {name: getattr(sample, name).detach().clone().requires_grad_() for name in sample.differentiable}
    target = leaves.get("target", sample.target)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # size_average, reduce, and kl_div's mean
        loss = ROUTES[route](client, sample.method, leaves["input"], target, **sample.options)
    assert loss.requires_grad
    loss.backward(expected.upstream)  # type: ignore[no-untyped-call]

    actual: dict[str, Any] = {"loss": loss} | {name: leaf.grad for name, leaf in leaves.items()}
    for part, truth in expected.truth.items():
        pytorchs = None if expected.own is None else expected.own[part]
        size, what = expected.sizes.get(part, 0.0), f"{part} of {sample.name}, {route}"
        assert_near(what, actual[part], truth, pytorchs, size, expected.slack)


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
