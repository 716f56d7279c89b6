"""PyTorch's own samples through the client's builders and the server's stages: losses, gradients, shapes, refusals."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import lossd
from lossd_server.backends import Backend
from lossd_server.errors import InvalidRequest
from tests.conformance import samples
from tests.conformance.path import answer
from tests.conformance.pytorch import array
from tests.conformance.samples import DTYPES, MODULES, OPERATIONS, Sample
from tests.conformance.tally import TALLY
from tests.oracle import REFERENCES
from tests.oracle.accepted import assert_accepted
from tests.oracle.exact import decode
from tests.oracle.reducing import Reference

# Beside the oracle, PyTorch in float64 is off by no more than this, in parts of the largest entry.
AGREED = 1e-12
# Error samples that lossd computes on purpose: the beginning of PyTorch's sentence, and why.
ACCEPTED_HERE: dict[str, str] = {
    r"expected scalar type": "floats may be mixed, and promote: a weight need not have the input's dtype",
}


def grad_output(loss: Tensor, dtype: torch.dtype) -> Tensor:
    """An upstream gradient of ordinary size and both signs."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(loss.shape, generator=generator).to(dtype)


def ask(backend: Backend, sample: Sample, upstream: Tensor) -> lossd.Result:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # size_average and reduce warn, as PyTorch's do
        return answer(
            backend,
            sample.method,
            sample.input,
            sample.target,
            grad=sample.differentiable,
            grad_output=upstream,
            **sample.options,
        )


def replay(backend: Backend, found: Iterable[Sample], dtype: torch.dtype, what: str) -> int:
    """Compares each sample's loss and gradients; how many there were."""
    compared = 0
    for sample in found:
        try:
            compare(backend, sample, dtype)
        except (AssertionError, InvalidRequest) as error:
            error.add_note(f"in {sample.name} of {dtype}: {sample}")
            raise
        TALLY.samples[f"{what} compared in {str(dtype).removeprefix('torch.')}"] += 1
        compared += 1
    return compared


def compare(backend: Backend, sample: Sample, dtype: torch.dtype) -> None:
    """Shapes are PyTorch's, gradients have its dtypes, values agree with its float64 to the accepted error.

    The loss of 16-bit tensors is float32.
    """
    wide = sample.converted(torch.float64)
    upstream = grad_output(wide.compute(None)["loss"], dtype)
    exact = wide.compute(upstream.to(torch.float64))
    own = computed(sample, upstream)
    result = ask(backend, sample, upstream)

    assert set(result.grads) == set(sample.differentiable)
    options = {key: array(value) if isinstance(value, Tensor) else value for key, value in sample.options.items()}
    options |= {"grad_output": array(upstream)}
    truth = REFERENCES[sample.method](array(sample.input), array(sample.target), **options)
    for name, expected in exact.items():
        actual = result.loss if name == "loss" else array(result.grads[name])
        assert actual.shape == tuple(expected.shape), name
        if name == "loss":
            assert str(actual.dtype) == ("float64" if dtype == torch.float64 else "float32")
        else:
            assert result.grads[name].dtype == getattr(sample, name).dtype
        near(name, sample.method, truth, result, expected.numpy(), None if own is None else own[name])


def computed(sample: Sample, upstream: Tensor) -> dict[str, Tensor] | None:
    """PyTorch's own, in the dtype that lossd computes in: its error is accepted. None where it cannot."""
    short = sample.input.dtype in (torch.bfloat16, torch.float16)
    one = sample.converted(torch.float32) if short else sample
    try:
        return one.compute(upstream.to(one.input.dtype))
    except (NotImplementedError, RuntimeError):
        return None


def near(
    name: str, method: str, truth: Reference, result: lossd.Result, exact: np.ndarray[Any, Any], own: Tensor | None
) -> None:
    """To the accepted error of PyTorch's float64; where that is not exact to AGREED, of the closed form."""
    closed = truth.loss if name == "loss" else truth.grads[name]
    largest = max(1e-300, float(np.max(np.abs(exact), initial=0, where=np.isfinite(exact))))
    agrees = np.allclose(exact, closed.astype(np.float64), rtol=0, atol=AGREED * largest, equal_nan=True)
    if not agrees:
        TALLY.samples[f"tensors ({method}'s {name}) where its float64 is not the closed form"] += 1
    actual: Any = result.loss if name == "loss" else result.grads[name]
    if isinstance(actual, Tensor):
        actual = to_numpy(actual)
    dtype = str(actual.dtype)
    reference = decode(exact) if agrees and dtype != "float64" else closed
    size = truth.sizes.get(name, 0)
    assert_accepted(
        actual, reference, dtype, None if own is None else array(own), terms=truth.count, size=size, what=name
    )


def to_numpy(value: Tensor) -> np.ndarray[Any, Any]:
    """bfloat16 by ml_dtypes."""
    if value.dtype != torch.bfloat16:
        return np.asarray(value.numpy())
    import ml_dtypes

    return np.asarray(value.view(torch.int16).numpy().view(ml_dtypes.bfloat16))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", OPERATIONS)
def test_samples_of_operations(numba: Backend, name: str, dtype: torch.dtype) -> None:
    """Every OpInfo sample of PyTorch's five losses has PyTorch's loss and gradients."""
    assert replay(numba, samples.of_operation(name, dtype), dtype, "OpInfo")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", MODULES)
def test_samples_of_modules(numba: Backend, name: str, dtype: torch.dtype) -> None:
    """Every ModuleInfo sample of PyTorch's five loss modules has PyTorch's loss and gradients."""
    assert replay(numba, samples.of_module(name, dtype), dtype, "ModuleInfo")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_error_samples(numba: Backend, dtype: torch.dtype) -> None:
    """What PyTorch's error samples say is refused is refused here, naming the field; deviations are listed above."""
    found = [error for name in MODULES for error in samples.errors_of_module(name, dtype)]
    found += [error for name in OPERATIONS for error in samples.errors_of_operation(name)]

    assert found
    for sample in found:
        reasons = [reason for start, reason in ACCEPTED_HERE.items() if f"] {start}" in sample.name]
        if reasons:
            answer(numba, sample.method, sample.input, sample.target, **sample.options)
            TALLY.samples["error samples computed on purpose"] += 1
            continue
        with pytest.raises(InvalidRequest) as refused:
            answer(numba, sample.method, sample.input, sample.target, **sample.options)
        assert refused.value.field, sample.name
        TALLY.samples["error samples refused"] += 1
