"""Ordinary values of one dtype and input shape, from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

DTYPES: dict[str, Any] = {
    "float32": np.float32,
    "float64": np.float64,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
}
EIGHT_BITS: dict[str, Any] = {"float8_e4m3fn": ml_dtypes.float8_e4m3fn, "float8_e5m2": ml_dtypes.float8_e5m2}


@dataclass
class Values:
    """Random tensors of `shape`; `stored` in `dtype`."""

    rng: np.random.Generator
    dtype: Any
    shape: tuple[int, ...]

    @property
    def classes(self) -> int:
        return self.shape[0] if len(self.shape) == 1 else self.shape[1]

    @property
    def rows(self) -> tuple[int, ...]:
        return () if len(self.shape) == 1 else self.shape[:1] + self.shape[2:]

    def stored(self, values: Any) -> Array:
        return np.asarray(values).astype(self.dtype)

    def logits(self) -> Array:
        return self.stored(self.rng.normal(0, 3, self.shape))

    def distribution(self) -> Array:
        return self.stored(self._shares())

    def log_probabilities(self) -> Array:
        return self.stored(np.log(self._shares()))

    def _shares(self) -> Array:
        e = np.exp(self.rng.normal(0, 1, self.shape))
        shares: Array = e / e.sum(axis=0 if e.ndim == 1 else 1, keepdims=True)
        return shares

    def probabilities(self) -> Array:
        return self.stored(self.rng.uniform(0.02, 0.98, self.shape))

    def counts(self) -> Array:
        return self.stored(self.rng.integers(1, 10, self.shape))

    def of_kind(self, kind: str) -> Array:
        """As `kind` and `target_kind` name them; rows of probabilities sum to 1."""
        return {
            "logits": self.logits,
            "log_probabilities": self.log_probabilities,
            "probabilities": self.distribution,
            "counts": self.counts,
        }[kind]()

    def index(self) -> Array:
        return np.asarray(self.rng.integers(0, self.classes, self.rows))

    def positive(self, shape: tuple[int, ...]) -> Array:
        return self.stored(self.rng.uniform(0.25, 2, shape))

    def signed(self, shape: tuple[int, ...]) -> Array:
        return self.stored(self.rng.normal(0, 1, shape))

    def some_ignored(self, y: Array, ignore_index: int) -> Array:
        """y with its first row, and about a quarter of the rest, ignored (a lone row is kept)."""
        chosen = self.rng.random(y.shape) < 0.25
        chosen.reshape(-1)[:1] = chosen.size > 1
        return np.where(chosen, ignore_index, y)
