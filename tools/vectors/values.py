"""Tensors of cases: small multiples of powers of two, and their exact quotients, so that every machine makes the same.

Nothing here is random, and nothing calls exp or log, whose last digit is the machine's.
"""

from __future__ import annotations

from math import prod
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

FLOATS: dict[str, Any] = {
    "float64": np.float64,
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
}
INTEGERS: dict[str, Any] = {
    "uint8": np.uint8,
    "int8": np.int8,
    "int16": np.int16,
    "int32": np.int32,
    "int64": np.int64,
}


def steps(shape: Shape, step: int, count: int, seed: int) -> Array:
    """Integers from 0 to count − 1 that go round."""
    made: Array = ((np.arange(prod(shape)) * step + 11 * seed) % count).reshape(shape)
    return made


def logits(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Array:
    """Eighths from −5 to 5."""
    return ((steps(shape, 7919, 81, seed) - 40) / 8).astype(dtype)


def shares(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Array:
    """Distributions along dimension 1, or 0 of a 1-D shape."""
    parts = steps(shape, 5, 7, seed) + 1
    found: Array = (parts / parts.sum(axis=min(1, len(shape) - 1), keepdims=True)).astype(dtype)
    return found


def log_probabilities(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Array:
    """Eighths from −5 to −1/8."""
    return (-(steps(shape, 37, 40, seed) + 1) / 8).astype(dtype)


def probabilities(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Array:
    """64ths from 1/64 to 63/64."""
    return ((steps(shape, 29, 63, seed) + 1) / 64).astype(dtype)


def counts(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Array:
    """From 1 to 9."""
    return (steps(shape, 5, 9, seed) + 1).astype(dtype)


def of_kind(kind: str, *shape: int, dtype: Any = np.float32, seed: int = 0) -> Array:
    """As `kind` and `target_kind` name them."""
    of = {"logits": logits, "log_probabilities": log_probabilities, "probabilities": shares, "counts": counts}
    made: Array = of[kind](*shape, dtype=dtype, seed=seed)
    return made


def labels(*shape: int, classes: int, dtype: Any = np.int64, seed: int = 0) -> Array:
    """Class indices."""
    return steps(shape, 31, classes, seed).astype(dtype)


def bits(*shape: int, dtype: Any = np.bool_) -> Array:
    """0 and 1."""
    return (steps(shape, 5, 3, 0) % 2).astype(dtype)


def positive(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Array:
    """Weights: quarters from 1/2 to 2."""
    return ((steps(shape, 3, 7, seed) + 2) / 4).astype(dtype)


def signed(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Array:
    """Upstream gradients: quarters from −1 to 1."""
    return ((steps(shape, 7, 9, seed) - 4) / 4).astype(dtype)


def f32(values: Any) -> Array:
    return np.asarray(values, np.float32)
