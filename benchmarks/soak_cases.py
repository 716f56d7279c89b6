"""What the soak asks for, and whether what it is told is right: requests whose answers are known."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
from scipy import special

from lossd.bench import float64
from tests.oracle import REFERENCES

Arrays = npt.NDArray[Any]
# SciPy's of the same name, of rows along dimension 1.
ACTIVATIONS: dict[str, Callable[[Arrays], Arrays]] = {
    "softmax": partial(special.softmax, axis=1),
    "log_softmax": partial(special.log_softmax, axis=1),
    "sigmoid": special.expit,
    "log_sigmoid": special.log_expit,
}
LOSSES = ("cross_entropy", "nll", "bce", "bce_with_logits", "kl_divergence", "entropy", "self_information")
LABELLED = ("cross_entropy", "nll")
DTYPES = ("float32", "float64", "float16", "bfloat16")
# What a kernel may be off, of the largest entry, in places of the dtype that it computes in.
PLACES = 64


@dataclass
class Case:
    """One request. expected: by "loss" or the gradient's name, in float64. known: an answer that was right: whatever
    way the next one comes, its bits are the same."""

    method: str
    operands: tuple[Arrays, ...]
    options: dict[str, Any]
    expected: dict[str, Arrays]
    known: dict[str, Arrays] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return sum(one.nbytes for one in self.operands)

    def fault(self, answer: Any) -> str:
        """ "" for a right answer (a Result; an array of an activation), else what is wrong."""
        found = {"loss": answer} if self.method in ACTIVATIONS else {"loss": answer.loss, **answer.grads}
        if found.keys() != self.expected.keys():
            return f"{self.method} answered {sorted(found)}, not {sorted(self.expected)}"
        if self.known:
            for name, array in found.items():
                if array.tobytes() != self.known[name].tobytes():
                    return f"{self.method}: {name} differs in its bits from an answer to the same request"
            return ""
        for name, array in found.items():
            fault = off(array, self.expected[name], self.operands[0].dtype)
            if fault:
                return f"{self.method}{self.operands[0].shape} {self.options}: {name} {fault}"
        self.known = {name: np.array(array) for name, array in found.items()}
        return ""


def off(actual: Arrays, expected: Arrays, dtype: np.dtype[Any]) -> str:
    """How `actual` is beyond what computing in float32 (float64) and storing it may cost."""
    if actual.shape != expected.shape:
        return f"has shape {actual.shape}, not {expected.shape}"
    if not expected.size:
        return ""
    computed = np.finfo(np.float64 if dtype.itemsize == 8 else np.float32)
    stored = ml_dtypes.finfo(actual.dtype)
    largest = float(np.abs(expected).max())
    allowed = largest * (PLACES * float(computed.eps) + float(stored.eps)) + float(stored.tiny)
    error = float(np.abs(actual.astype(np.float64) - expected).max())
    return "" if error <= allowed else f"is off by {error:.3g}, {allowed:.3g} are allowed"


def tiny(rng: random.Random) -> Case:
    """A request of at most some hundred numbers, with options; its answer from the oracle."""
    method = rng.choice((*LOSSES, *ACTIVATIONS))
    numbers = np.random.default_rng(rng.getrandbits(32))
    shape = rng.choice([(5,), (1, 1), (3, 4), (7, 11), (2, 3, 4), (16, 2), (1, 40)])
    dtype = np.dtype(rng.choice(DTYPES))
    operands = tensors(method, shape, dtype, numbers)
    options: dict[str, Any] = {}
    if method not in ACTIVATIONS:
        options = {"reduction": rng.choice(["none", "sum", "mean"]), "grad": rng.random() < 0.6}
        if rng.random() < 0.4:
            options |= extra(method, operands, numbers, rng)
    reference = REFERENCES[method](*operands, **options)
    expected = {"loss": np.array(reference.loss, np.float64)}
    if options.get("grad"):
        expected["input"] = np.array(reference.grads["input"], np.float64)
    return Case(method, operands, options, expected)


def large(rng: random.Random, size_bytes: int) -> Case:
    """A request whose input has about so many bytes, without options; its answer in float64."""
    method = rng.choice((*LOSSES, *ACTIVATIONS))
    numbers = np.random.default_rng(rng.getrandbits(32))
    dtype = np.dtype(rng.choice(DTYPES[:3]))
    classes = rng.choice([2, 10, 1000, 3217])
    shape = (max(2, size_bytes // dtype.itemsize // classes), classes)
    operands = tensors(method, shape, dtype, numbers)
    if method in ACTIVATIONS:
        return Case(method, operands, {}, {"loss": ACTIVATIONS[method](operands[0].astype(np.float64))})
    reduction = rng.choice(["none", "sum", "mean"])
    options = {"reduction": reduction, "grad": rng.random() < 0.6}
    loss, slopes = float64.closed_form(method, operands[0], operands[1] if len(operands) > 1 else None, reduction)
    return Case(method, operands, options, {"loss": loss} | ({"input": slopes} if options["grad"] else {}))


def tensors(
    method: str, shape: tuple[int, ...], dtype: np.dtype[Any], numbers: np.random.Generator
) -> tuple[Arrays, ...]:
    classes = 0 if len(shape) == 1 else 1
    if method in ("bce", "self_information", "entropy"):
        x = numbers.uniform(0.05, 0.95, shape)
    elif method in ("nll", "kl_divergence"):
        x = -numbers.uniform(0.1, 4.0, shape)
    else:
        x = numbers.normal(0.0, 2.0, shape)
    operands = [x.astype(dtype)]
    if method in LABELLED:
        operands.append(numbers.integers(0, shape[classes], shape[:classes] + shape[classes + 1 :]))
    elif method in ("bce", "bce_with_logits", "kl_divergence"):
        operands.append(numbers.uniform(0.05, 0.95, shape).astype(dtype))
    return tuple(operands)


def extra(
    method: str, operands: tuple[Arrays, ...], numbers: np.random.Generator, rng: random.Random
) -> dict[str, Any]:
    """One option or two of that loss."""
    x = operands[0]
    classes = x.shape[0 if x.ndim == 1 else 1]
    found: dict[str, Any] = {}
    if method in LABELLED:
        found["weight"] = numbers.uniform(0.5, 2.0, (classes,)).astype(x.dtype)
    if method == "cross_entropy" and rng.random() < 0.5:
        found["label_smoothing"] = 0.125
    if method in ("bce", "bce_with_logits"):
        found["weight"] = numbers.uniform(0.5, 2.0, x.shape).astype(x.dtype)
    if method in ("entropy", "self_information", "kl_divergence"):
        found["base"] = 2.0
    return found
