"""The accepted error of tests/oracle/accepted.py, for whole tensors at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tests.oracle.accepted import ULPS, ulp
from tests.torch.tally import TALLY

F64 = npt.NDArray[np.float64]


def wide(values: Tensor) -> F64:
    """Exactly."""
    return np.asarray(values.detach().to(torch.float64).numpy(), np.float64)


def assert_near(what: str, actual: Tensor, expected: F64, own: Tensor | None, size: float = 0.0) -> None:
    """Within the larger of PyTorch's own error in that dtype and 4 ulp (8 in float64) of the largest entry.

    expected: of the same shape. own: PyTorch's, or None. size: of the numbers whose differences these are, where it may
    exceed the largest entry.
    """
    dtype = str(actual.dtype).removeprefix("torch.")
    values = wide(actual)
    finite = np.isfinite(expected) & (np.abs(expected) <= torch.finfo(actual.dtype).max)
    top = max(float(np.max(np.abs(expected), initial=0.0, where=finite)), size)
    unit = float(ulp(top, dtype))
    bound = max(ULPS[dtype] * unit, float(torch.finfo(torch.float32).tiny) * (dtype != "float64"))
    if own is not None:
        assert own.dtype == actual.dtype, f"{what} has dtype {actual.dtype}, PyTorch's {own.dtype}"
        assert own.shape == actual.shape, f"{what} has shape {actual.shape}, PyTorch's {own.shape}"
        theirs = wide(own)
        bound = max(bound, largest(theirs - expected, finite & np.isfinite(theirs)))

    assert values.shape == expected.shape, f"{what} has shape {values.shape}, not {expected.shape}"
    np.testing.assert_array_equal(np.isnan(values), np.isnan(expected), what)
    assert bool(np.all(np.isfinite(values[finite]))), f"{what} is {values[finite]}, truly {expected[finite]}"
    np.testing.assert_array_equal(np.sign(values[~finite]), np.sign(expected[~finite]), what)
    error = largest(values - expected, finite)
    assert error <= bound, f"{what} is off by {error / unit:.2f} {dtype} ulp of the largest entry, {values} {expected}"
    TALLY.error(dtype, error / unit, error / top if top else 0.0, what)


def largest(values: Any, where: Any) -> float:
    with np.errstate(invalid="ignore"):
        return float(np.max(np.abs(values), initial=0.0, where=where))
