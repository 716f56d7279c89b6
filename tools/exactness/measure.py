"""Relative errors against the truth, the worst of each question."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from exactness.libraries import Library
from exactness.samples import Sample
from exactness.truth import truth
from tests.oracle.exact import Number, decode, mp

DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class Measured:
    """errors: (quantity, library, dtype) → one relative error for each point of `at`."""

    at: list[float]
    errors: dict[tuple[str, str, str], list[float]]

    def worst(self, quantity: str, library: str, dtype: str) -> float | None:
        """None where the library has no such function."""
        found = self.errors.get((quantity, library, dtype))
        return max(found) if found else None


def measure(samples: Iterable[Sample], libraries: Mapping[str, Library], dtypes: Iterable[str] = DTYPES) -> Measured:
    """Every library in every dtype at every sample."""
    measured = Measured([], {})
    for sample in samples:
        measured.at.append(sample.at)
        exact = truth(sample)
        for name, library in libraries.items():
            for dtype in dtypes:
                if name == "SciPy" and dtype not in DTYPES:
                    continue
                computed = library(sample, dtype)
                for quantity, entries in exact.items():
                    if quantity in computed:
                        found = measured.errors.setdefault((quantity, name, dtype), [])
                        found.append(relative_error(computed[quantity], entries))
    return measured


def relative_error(values: Any, exact: list[Number]) -> float:
    """The largest |value − exact| / |exact| of the entries; ∞ where a value is NaN, or not 0 where 0 is exact."""
    largest = mp.mpf(0)
    for value, expected in zip(decode(values).reshape(-1), exact, strict=True):
        if mp.isnan(value):
            return float("inf")
        if value != expected:
            largest = max(largest, abs(value - expected) / abs(expected) if expected else mp.inf)
    return float(largest)
