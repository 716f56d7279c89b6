"""Conversion cost: what making the operands of a job ready for kernels takes, in time and memory.

Measured by `benchmarks/inline_cost.py` on one core of an AMD EPYC.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.v1 import tensor_pb2 as pb
from lossd_server.tensors.array import STORAGE

# Another processor may be slower, and so may this one beside its neighbours.
SAFETY = 1.5
# Nanoseconds an element, to float32 or float64, whichever takes longer.
WIDENED: dict[int, float] = {
    pb.DATA_TYPE_BOOL: 0.12,  # with the look at whether it is one
    pb.DATA_TYPE_UINT8: 0.11,
    pb.DATA_TYPE_INT8: 0.11,
    pb.DATA_TYPE_INT16: 0.11,
    pb.DATA_TYPE_INT32: 0.13,
    pb.DATA_TYPE_INT64: 0.26,
    pb.DATA_TYPE_FLOAT8_E4M3FN: 1.09,
    pb.DATA_TYPE_FLOAT8_E5M2: 1.09,
    pb.DATA_TYPE_FLOAT16: 2.48,
    pb.DATA_TYPE_BFLOAT16: 0.28,
    pb.DATA_TYPE_FLOAT32: 0.13,
    pb.DATA_TYPE_FLOAT64: 0.12,
}
# A count divided by the sum of its row.
DIVIDED = 2.2
# What the copies of a batch, or of a part, may hold: one more megabyte would not make it faster.
COPIES_BYTES = 8 << 20
INT64 = STORAGE[pb.DATA_TYPE_INT64]


class ConversionCost:
    """Added up operand by operand: nanoseconds, and bytes of the copies."""

    __slots__ = ("bytes", "ns")

    def __init__(self) -> None:
        self.ns = 0.0
        self.bytes = 0

    def widen(self, values: npt.NDArray[Any], dtype: int, to: np.dtype[Any]) -> None:
        self.ns += SAFETY * WIDENED[dtype] * values.size
        self.bytes += to.itemsize * values.size

    def divide(self, values: npt.NDArray[Any], dtype: int, compute: np.dtype[Any]) -> None:
        """Counts: as float64, then their shares, then those in the dtype that is computed in."""
        self.ns += SAFETY * (WIDENED[dtype] + DIVIDED) * values.size
        self.bytes += (16 + compute.itemsize) * values.size
