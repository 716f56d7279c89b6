"""Checks answers: by their bits, or against a closed form in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.bench.float64 import Array, closed_form
from lossd.results import Result

Arrays = npt.NDArray[Any]
# Accepted error, relative to the largest entry: 32 units in the last place of the dtype that is computed in, and one
# of the result's dtype.
PLACES = 32
# An answer up to this size is compared by copying it: cheaper than numpy's ways.
_SMALL_BYTES = 1 << 16
# Of a larger tensor, one part of this size is compared in each answer, another one each time: comparing all of 128 MiB
# takes as long as computing it, and the server would wait for the next request meanwhile.
PART_BYTES = 1 << 20


class Expected:
    """The right answer to one request. The closed form is evaluated once.

    thorough: compare all of every tensor, however large. differing: number of right answers that differ in their bits
    from the first one.
    """

    def __init__(
        self, method: str, operands: tuple[Arrays, ...], reduction: str, gradient: bool, resolution: tuple[float, float]
    ) -> None:
        """resolution: the input dtype's distance from 1 to the next number, and its least positive number."""
        target = operands[1] if len(operands) > 1 else None
        self._loss, slopes = closed_form(method, operands[0], target, reduction)
        self._gradient: Array | None = slopes if gradient else None
        self._dtype = operands[0].dtype
        # Losses of 8- and 16-bit floats are computed and returned in float32.
        computed = max(self._dtype, np.dtype(np.float32), key=lambda dtype: dtype.itemsize)
        self._eps, self._tiny = float(np.finfo(computed).eps), float(np.finfo(computed).tiny)
        self._gradient_eps, self._gradient_tiny = resolution
        self._known: tuple[Arrays, Arrays | None] | None = None
        self._answers = 0
        self.thorough = False
        self.differing = 0

    def fault(self, result: Result) -> str:
        """What is wrong with an answer; "" if it is right."""
        loss, gradient = result.loss, result.grads.get("input")
        if self._known is not None:
            part = None if self.thorough else self._answers
            self._answers += 1
            if _same(loss, self._known[0], part) and _same(gradient, self._known[1], part):
                return ""
        fault = self._compare("loss", loss, self._loss, PLACES * self._eps, self._tiny)
        if not fault and self._gradient is not None:
            relative = PLACES * self._eps + self._gradient_eps
            fault = self._compare("gradient", gradient, self._gradient, relative, self._gradient_tiny)
        if not fault:
            if self._known is None:
                self._known = loss, gradient
            else:
                self.differing += 1
        return fault

    def _compare(self, name: str, actual: Arrays | None, expected: Array, relative: float, least: float) -> str:
        if actual is None:
            return f"no {name} came back"
        if actual.shape != expected.shape:
            return f"the {name} has shape {list(actual.shape)}, not {list(expected.shape)}"
        if not expected.size:
            return ""
        allowed = relative * float(np.abs(expected).max()) + least
        # A NaN differs by NaN, which fails the comparison below.
        off = np.abs(actual.astype(np.float64) - expected)
        if bool(np.all(off <= allowed)):
            return ""
        worst = np.unravel_index(int(np.argmax(np.nan_to_num(off, nan=np.inf))), expected.shape)
        where = f"[{', '.join(str(int(one)) for one in worst)}]" if worst else ""
        return f"{name}{where} is {float(actual[worst])!r}, in float64 {float(expected[worst])!r}"


def _same(actual: Arrays | None, known: Arrays | None, part: int | None) -> bool:
    """Whether both have the same bytes. part: compare this part of a large tensor (modulo their number); None: all."""
    if actual is None or known is None:
        return actual is known
    if actual.shape != known.shape or actual.dtype != known.dtype:
        return False
    if actual.nbytes <= _SMALL_BYTES:
        return actual.tobytes() == known.tobytes()
    one, other = _words(actual), _words(known)
    if part is not None:
        length = PART_BYTES // one.itemsize
        start = part % -(-len(one) // length) * length
        one, other = one[start : start + length], other[start : start + length]
    return np.array_equal(one, other)


def _words(array: Arrays) -> Arrays:
    """The array's bytes as integers, of 8 bytes where possible: numpy compares those eight times as fast."""
    flat = np.ravel(array)
    return flat.view(np.uint64 if flat.nbytes % 8 == 0 else np.uint8)
