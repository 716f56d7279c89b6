"""Targets that are class indices, and the weights of classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.v1 import loss_pb2 as pb
from lossd.v1 import tensor_pb2
from lossd_server.jobs.job import Layout
from lossd_server.losses.shapes import mismatch, require
from lossd_server.tensors.array import Array
from lossd_server.tensors.dtypes import widen

NO_TARGET_GRADIENT: dict[int, str] = {pb.GRADIENT_TARGET: "class indices have none"}


def indices(target: Array, input_shape: tuple[int, ...], rows: tuple[int, ...]) -> Array:
    """One int64 class index a row. rows: their shape. The target of a 1-D input may be () or (1)."""
    if target.shape != rows and (len(input_shape) != 1 or target.shape != (1,)):
        raise mismatch(
            target.shape, rows, "target", f"class indices (integer dtype) for input of shape {list(input_shape)}"
        )
    if target.dtype == tensor_pb2.DATA_TYPE_INT64:
        return target
    return Array(target.values.astype(np.int64), tensor_pb2.DATA_TYPE_INT64, target.shape)


def weights(weight: Array | None, layout: Layout, compute: np.dtype[Any]) -> npt.NDArray[Any] | None:
    """One weight a class, of dtype `compute`."""
    if weight is None:
        return None
    require(weight.shape, (layout.classes,), "weight", f"a class weight for {layout.classes} classes")
    return widen(weight.values, weight.dtype, compute)
