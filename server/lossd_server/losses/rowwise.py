"""Row losses: what losses with one entry a row have in common."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lossd_server.jobs.job import Reducing, Reduction
from lossd_server.losses.shapes import require
from lossd_server.tensors.array import Array
from lossd_server.tensors.dtypes import FLOAT64, widen


def row_upstream(grad_output: Array | None, reducing: Reducing) -> npt.NDArray[np.float64] | None:
    """The upstream gradient of row losses that come back unreduced, in C order."""
    if grad_output is None or reducing.reduction is not Reduction.NONE:
        return None
    return widen(grad_output.values, grad_output.dtype, FLOAT64)


def row_weight(weight: Array | None, loss_shape: tuple[int, ...]) -> npt.NDArray[np.float64] | None:
    """One weight a row, in the rows' C order."""
    if weight is None:
        return None
    require(weight.shape, loss_shape, "row_weight", "one weight for each row")
    return widen(weight.values, weight.dtype, FLOAT64)
