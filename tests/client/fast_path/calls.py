"""Small calls of every kind, for hypothesis: methods, dtypes, shapes, layouts of memory, options; right and wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

from lossd.request.build import METHODS, option_names

PLAIN = ["f4", "f8", "f2", ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, "i8", "i4", "i2", "i1", "u1", "?"]
ODD = [">f4", ">i8", "u2", "u4", "u8", "c8", "S3"]
LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "as it is": lambda x: x,
    "C order": np.ascontiguousarray,
    "columns first": np.asfortranarray,
    "backwards": lambda x: x[::-1] if x.ndim else x,
    "every second": lambda x: np.repeat(x, 2, axis=-1)[..., ::2] if x.ndim else x,
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape) if x.ndim and len(x) else x,
}
KINDS: dict[str, Callable[[Any], Any]] = {
    "array": lambda x: x,
    "read-only": lambda x: _read_only(x),
    "list": lambda x: x.tolist(),
    "subclass": lambda x: x.view(np.memmap),
}
NUMBERS = [0, 1, -100, 2, True, 0.0, 0.5, 1.0, -1.0, 2.0, np.float64(0.5), np.int64(1)]
WORDS = ["none", "mean", "sum", "batchmean", "logits", "probabilities", "counts", "indices", "log_probabilities"]
VALUES: dict[str, list[Any]] = {
    "reduction": ["none", "mean", "sum", "batchmean", "men"],
    "grad": [True, False, 1, 0, "input", "target", ("target", "input"), ["weight", "input"], "inptu"],
    "kind": WORDS,
    "target_kind": WORDS,
    "empty_mean": ["nan", "zero", 0],
    "outputs": ["lse", ("argmax", "lse"), ["correct", "entropy"], (), "larse"],
    "log_target": [True, False, 1],
}
TENSORS = ("weight", "pos_weight", "row_weight", "grad_output")
OTHERS = {"transport", "progress", "timeout", "out", "size_average", "reduce"}


class SmallCall(NamedTuple):
    method: str
    operands: tuple[Any, ...]
    options: dict[str, Any]


def _read_only(x: Any) -> Any:
    x = x.copy()
    x.flags.writeable = False
    return x


def _array(shape: tuple[int, ...], dtype: Any, of: int) -> Any:
    """Numbers of which most are probabilities, and class indices as integers."""
    numbers = (np.arange(np.prod(shape, dtype=int)) * 7 + of) % 11 / 11
    if np.dtype(dtype).kind in "iub":
        numbers = numbers * 3
    return numbers.reshape(shape).astype(dtype)


@st.composite
def tensors(draw: st.DrawFn, shape: tuple[int, ...], dtypes: list[Any]) -> Any:
    array = _array(shape, draw(st.sampled_from(dtypes)), draw(st.integers(0, 10)))
    laid = LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))](array)
    return KINDS[draw(st.sampled_from(["array"] * 7 + sorted(KINDS)))](laid)


@st.composite
def small_calls(draw: st.DrawFn) -> SmallCall:
    """A call that may be wrong in any way that a caller may be."""
    method = draw(st.sampled_from(sorted(METHODS)))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    rows = (*shape[:1], *shape[2:]) if len(shape) > 1 else ()
    dtypes = draw(st.sampled_from([PLAIN[:2], PLAIN[:2], PLAIN, PLAIN + ODD]))
    operands = [draw(tensors(shape, dtypes))]
    if len(METHODS[method].tensors) > 1:
        indices = draw(st.booleans())
        operands.append(draw(tensors(rows if indices else shape, ["i8", "u1", *ODD] if indices else dtypes)))
    # Of these the method may have none.
    names = sorted({"dim", *option_names(method)} - OTHERS)
    options: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from(names), max_size=3, unique=True)):
        if draw(st.integers(0, 9)) == 0:
            options[name] = None
        elif name in TENSORS:
            fit = {"weight": shape[1:2], "row_weight": rows}.get(name, shape)
            options[name] = draw(tensors(fit, dtypes))
        else:
            options[name] = draw(st.sampled_from(VALUES.get(name, NUMBERS)))
    return SmallCall(method, tuple(operands), options)
