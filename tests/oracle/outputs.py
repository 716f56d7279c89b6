"""By-products of a softmax cross-entropy: lse, entropy, argmax and correct, one entry a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.oracle.exact import Number, mp
from tests.oracle.kinds import Distribution

# Numbers of mpmath for lse and entropy; int64 and bool for the others, as they are answered.
DTYPES: dict[str, Any] = {"lse": object, "entropy": object, "argmax": np.int64, "correct": np.bool_}


class Outputs:
    """Those of `asked` (a name or names), of the rows' shape."""

    def __init__(self, asked: Any, shape: tuple[int, ...]) -> None:
        names = (asked,) if isinstance(asked, str) else tuple(asked)
        self.found: dict[str, npt.NDArray[Any]] = {name: np.empty(shape, DTYPES[name]) for name in names}

    def put(self, row: tuple[int, ...], x: Sequence[Number], soft: Distribution, label: int | None) -> None:
        """x: the row after the cap. label: None where the row is ignored or has a distribution for a target."""
        if not self.found:
            return
        unknown = any(mp.isnan(value) for value in x)
        top = -1 if unknown else max(range(len(x)), key=lambda c: (x[c], -c))
        values = {"argmax": top, "correct": label is not None and top == label}
        for name, array in self.found.items():
            array[row] = values[name] if name in values else getattr(soft, name)
