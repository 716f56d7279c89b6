"""Small floats as numbers, against ml_dtypes and numpy, over all of their values."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from lossd.v1 import tensor_pb2 as pb
from lossd_server.widening import widen

SMALL = [
    (pb.DATA_TYPE_FLOAT8_E4M3FN, np.uint8, ml_dtypes.float8_e4m3fn),
    (pb.DATA_TYPE_FLOAT8_E5M2, np.uint8, ml_dtypes.float8_e5m2),
    (pb.DATA_TYPE_FLOAT16, np.uint16, np.float16),
    (pb.DATA_TYPE_BFLOAT16, np.uint16, ml_dtypes.bfloat16),
]


@pytest.mark.parametrize("compute", [np.float32, np.float64])
@pytest.mark.parametrize("dtype, bits, meaning", SMALL)
def test_every_value_of_a_small_float_is_exact(
    dtype: int, bits: npt.DTypeLike, meaning: npt.DTypeLike, compute: npt.DTypeLike
) -> None:
    """All 256 or 65,536 bit patterns: zeros, subnormals, infinities and NaN included."""
    stored = np.arange(np.iinfo(np.dtype(bits)).max + 1).astype(bits)
    with np.errstate(invalid="ignore"):
        expected = stored.view(meaning).astype(np.float32).astype(compute)
    values = widen(stored, dtype, np.dtype(compute))

    assert values.dtype == compute
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_array_equal(np.signbit(values)[~np.isnan(values)], np.signbit(expected)[~np.isnan(values)])


def test_a_signalling_nan_is_a_nan() -> None:
    """Its conversion raises the invalid flag in the processor, which is nobody's warning."""
    values = widen(np.array([0x7F800001], np.uint32).view(np.float32), pb.DATA_TYPE_FLOAT32, np.dtype(np.float64))

    assert np.isnan(values[0])
