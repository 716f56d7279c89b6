"""Row losses: what losses with one entry a row have in common."""

from __future__ import annotations

from typing import Any

import numpy as np

from lossd_server.jobs.job import Reducing, Reduction
from lossd_server.losses.shapes import require
from lossd_server.tensors.array import Array
from lossd_server.tensors.dtypes import DATA_TYPE, FLOAT64


def row_upstream(grad_output: Array | None, reducing: Reducing) -> Array | None:
    """The upstream gradient of row losses that come back unreduced, in C order."""
    return grad_output if reducing.reduction is Reduction.NONE else None


def row_weight(weight: Array | None, loss_shape: tuple[int, ...]) -> Array | None:
    """The weight, if it has one entry a row, in the rows' C order."""
    if weight is not None:
        require(weight.shape, loss_shape, "row_weight", "one weight for each row")
    return weight


def weight_fields(
    compute: np.dtype[Any],
    class_weight: Array | None = None,
    row_weight: Array | None = None,
    row_upstream: Array | None = None,
) -> dict[str, Any]:
    """The fields of a Job that hold these, as they were sent, with the dtypes of those that are to be widened."""
    given = {"class_weight": class_weight, "row_weight": row_weight, "row_upstream": row_upstream}
    fields: dict[str, Any] = {name: array.values for name, array in given.items() if array is not None}
    fields["sent_dtypes"] = {
        name: array.dtype
        for name, array in given.items()
        if array is not None and array.dtype != DATA_TYPE[compute if name == "class_weight" else FLOAT64]
    }
    return fields
