"""Small floats as numbers, against ml_dtypes and numpy, over all of their values."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from lossd.v1 import tensor_pb2 as pb
from lossd_server.tensors.dtypes import FLOAT64, narrowed, widen

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


@pytest.mark.parametrize("dtype", [pb.DATA_TYPE_FLOAT16, pb.DATA_TYPE_BFLOAT16])
def test_narrowing_rounds_once_to_nearest_even(dtype: int) -> None:
    """Every value comes back; midpoints go to even, and what is just beside a midpoint to its own side.

    By way of float32 such a number would fall on the midpoint first, and then to the wrong side.
    """
    stored = np.arange(0x7C00 if dtype == pb.DATA_TYPE_FLOAT16 else 0x7F80, dtype=np.uint16)
    values = widen(stored, dtype, FLOAT64)
    middle = (values[:-1] + values[1:]) / 2
    even = stored[:-1] + (stored[:-1] & 1)

    for sign, bit in ((1.0, 0), (-1.0, 0x8000)):
        np.testing.assert_array_equal(narrowed(sign * values, dtype), stored | bit)
        np.testing.assert_array_equal(narrowed(sign * middle, dtype), even | bit)
        np.testing.assert_array_equal(narrowed(sign * np.nextafter(middle, np.inf), dtype), stored[1:] | bit)
        np.testing.assert_array_equal(narrowed(sign * np.nextafter(middle, 0), dtype), stored[:-1] | bit)


@pytest.mark.parametrize("dtype, infinity", [(pb.DATA_TYPE_FLOAT16, 0x7C00), (pb.DATA_TYPE_BFLOAT16, 0x7F80)])
def test_narrowing_keeps_infinities_and_nan(dtype: int, infinity: int) -> None:
    """What is too large becomes infinite."""
    bits = narrowed(np.array([np.inf, -np.inf, 1e300, -1e300, np.nan]), dtype)

    assert bits[:4].tolist() == [infinity, infinity | 0x8000] * 2
    assert np.isnan(widen(bits[4:], dtype, FLOAT64)[0])


def test_narrowing_to_wide_floats_is_a_cast() -> None:
    """float32 is rounded, float64 is as it was."""
    values = np.array([1 / 3, 1e-300])

    assert narrowed(values, pb.DATA_TYPE_FLOAT32).tolist() == [np.float32(1 / 3), 0.0]
    assert narrowed(values, pb.DATA_TYPE_FLOAT64) is values
