"""Operations of a run: a table of requests made from its seed, each with the digest of its only right answer."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

LOSSES = ("cross_entropy", "nll", "bce", "bce_with_logits", "kl_divergence", "entropy", "self_information")
ACTIVATIONS = ("softmax", "log_softmax", "sigmoid", "log_sigmoid")
REDUCTIONS = ("none", "mean", "sum")
DTYPES = tuple(map(np.dtype, (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)))
# One row, some rows, dimensions behind the classes; the last two are near the end of what is answered at once.
SHAPES = ((1, 1), (1, 10), (5,), (3, 4), (8, 16), (7, 11), (2, 3, 4), (16, 2), (64, 100), (200, 10))
# Bytes of the input: from beyond the small calls to the largest message that a server takes by default, 16 MiB.
LARGE_BYTES = (70_000, 200_000, 700_000, 1_100_000, 3_000_000, 9_000_000, 16_000_000)
SMALL_BYTES = 64 << 10


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One request. options: those of the loss, without those of the client. number: its place in the table."""

    number: int
    method: str
    operands: tuple[Array, ...]
    options: dict[str, Any]

    @property
    def nbytes(self) -> int:
        return sum(one.nbytes for one in self.operands)

    @property
    def is_small(self) -> bool:
        return self.nbytes < SMALL_BYTES

    @property
    def item(self) -> dict[str, Any]:
        """As `client.map` takes it."""
        return dict(zip(("input", "target"), self.operands, strict=False)) | self.options

    def __str__(self) -> str:
        options = " ".join(
            f"{name}={value}" for name, value in self.options.items() if not isinstance(value, np.ndarray)
        )
        return f"{self.number}: {self.method} {self.operands[0].dtype} {self.operands[0].shape} {options}"


def table(seed: int, most_bytes: int) -> list[Operation]:
    """The same for the same seed, in every process. most_bytes: of an input."""
    rng = random.Random(f"operations {seed}")
    made: list[Operation] = []
    for method in LOSSES:
        for reduction in REDUCTIONS:
            made += [_loss(len(made) + n, method, reduction, rng.choice(SHAPES), rng) for n in range(2)]
    for method in ACTIVATIONS:
        made.append(_activation(len(made), method, rng.choice(SHAPES), rng))
    for nbytes in LARGE_BYTES:
        if nbytes <= most_bytes:
            made += [_large(len(made) + n, nbytes, rng) for n in range(2)]
    return made


def digest(answer: Any) -> str:
    """Of every byte of an answer: values, gradients, auxiliary outputs, and what a mean was divided by."""
    found = hashlib.blake2b(digest_size=16)
    if isinstance(answer, np.ndarray):
        _add(found, "value", answer)
        return found.hexdigest()
    _add(found, "loss", answer.loss)
    for name, array in sorted({**answer.grads, **answer.outputs}.items()):
        _add(found, name, array)
    summary = answer.summary
    found.update(f"{summary.loss_sum.hex()} {summary.weight_sum.hex()} {summary.count}".encode())
    return found.hexdigest()


def _add(found: Any, name: str, array: Array) -> None:
    found.update(f"{name} {array.dtype} {array.shape};".encode())
    found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def _large(number: int, nbytes: int, rng: random.Random) -> Operation:
    method = rng.choice(LOSSES)
    dtype = rng.choice(DTYPES)
    classes = rng.choice((10, 1000, 3217))
    rows = max(1, nbytes // dtype.itemsize // classes)
    return _loss(number, method, rng.choice(REDUCTIONS), (rows, classes), rng, dtype)


def _loss(
    number: int,
    method: str,
    reduction: str,
    shape: tuple[int, ...],
    rng: random.Random,
    dtype: np.dtype[Any] | None = None,
) -> Operation:
    numbers = np.random.default_rng(rng.getrandbits(32))
    kind = dtype or rng.choice(DTYPES)
    operands = _operands(method, shape, kind, numbers)
    options: dict[str, Any] = {"reduction": reduction, "grad": rng.random() < 0.6}
    if method in ("cross_entropy", "nll") and rng.random() < 0.3:
        classes = shape[0 if len(shape) == 1 else 1]
        options["weight"] = numbers.uniform(0.5, 2.0, (classes,)).astype(kind)
    if method == "cross_entropy" and rng.random() < 0.4:
        options |= {"label_smoothing": 0.125, "outputs": ("argmax", "lse")}
    if method in ("entropy", "kl_divergence") and rng.random() < 0.5:
        options["base"] = 2.0
    return Operation(number, method, operands, options)


def _activation(number: int, method: str, shape: tuple[int, ...], rng: random.Random) -> Operation:
    numbers = np.random.default_rng(rng.getrandbits(32))
    return Operation(number, method, (numbers.normal(0.0, 2.0, shape).astype(rng.choice(DTYPES[:3])),), {})


def _operands(
    method: str, shape: tuple[int, ...], dtype: np.dtype[Any], numbers: np.random.Generator
) -> tuple[Array, ...]:
    if method in ("bce", "self_information", "entropy"):
        x = numbers.uniform(0.05, 0.95, shape)
    elif method in ("nll", "kl_divergence"):
        x = -numbers.uniform(0.1, 4.0, shape)
    else:
        x = numbers.normal(0.0, 2.0, shape)
    operands = [x.astype(dtype)]
    if method in ("cross_entropy", "nll"):
        axis = 0 if len(shape) == 1 else 1
        operands.append(numbers.integers(0, shape[axis], shape[:axis] + shape[axis + 1 :]))
    elif method in ("bce", "bce_with_logits", "kl_divergence"):
        operands.append(numbers.uniform(0.05, 0.95, shape).astype(dtype))
    return tuple(operands)
