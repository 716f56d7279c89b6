"""Evaluations as lossd's own client makes them, and as Triton's client is told to make them."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

import lossd

RNG = np.random.default_rng(12)
DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "bfloat16": "BF16",
    "float32": "FP32",
    "float64": "FP64",
}
FLOATS = (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)
INTEGERS = (np.uint8, np.int8, np.int16, np.int32, np.int64)
ACTIVATIONS = ("softmax", "log_softmax", "sigmoid", "log_sigmoid")


@dataclass(frozen=True)
class TritonCase:
    """One evaluation. tensors: input and target, as they are passed; others are among the options."""

    model: str
    tensors: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)
    grad: tuple[str, ...] = ()

    def own(self, client: lossd.Client) -> dict[str, Any]:
        """What lossd's client has, as outputs. Raises lossd.Error."""
        method = getattr(client, self.model)
        if self.model in ACTIVATIONS:
            return {"output": told(method(*self.tensors, **self.options))}
        result = method(*self.tensors, **self.options, grad=self.grad)
        summary = result.summary
        found = {
            "loss": told(result.loss),
            "loss_sum": told(np.array(summary.loss_sum)),
            "weight_sum": told(np.array(summary.weight_sum)),
            "count": told(np.array(summary.count)),
        }
        found |= {f"{name}_gradient": told(gradient) for name, gradient in result.grads.items()}
        return found | {name: told(values) for name, values in result.outputs.items()}

    def triton(self, request_id: str) -> dict[str, Any]:
        """The same for triton_calls.py, as JSON."""
        given = dict(zip(("input", "target"), self.tensors, strict=False))
        given |= {name: value for name, value in self.options.items() if isinstance(value, np.ndarray)}
        auxiliary = self.options.get("outputs", ())
        asked = [f"{name}_gradient" for name in self.grad] + list(auxiliary)
        return {
            "model": self.model,
            "id": request_id,
            "inputs": [{"name": name, **told(values)} for name, values in given.items()],
            "parameters": {
                name: value for name, value in self.options.items() if name not in given and name != "outputs"
            },
            "outputs": ["loss", "loss_sum", "weight_sum", "count", *asked] if asked else None,
        }


def told(values: Any) -> dict[str, Any]:
    array = np.asarray(values)
    data = base64.b64encode(array.tobytes()).decode()
    return {"datatype": DATATYPES[array.dtype.name], "shape": list(array.shape), "data": data}


def logits(*shape: int, dtype: Any = np.float32) -> Any:
    return RNG.normal(0, 3, shape).astype(dtype)


def probabilities(*shape: int, dtype: Any = np.float32) -> Any:
    return RNG.uniform(0.01, 0.99, shape).astype(dtype)


def rows(*shape: int, dtype: Any = np.float32) -> Any:
    """Distributions along the last dimension."""
    return RNG.dirichlet(np.ones(shape[-1]), shape[:-1]).astype(dtype)


def labels(count: int, classes: int, dtype: Any = np.int64) -> Any:
    return RNG.integers(0, classes, count).astype(dtype)


def cases() -> Iterator[TritonCase]:
    """Every loss, every dtype, every option."""
    for dtype in FLOATS:
        x = logits(8, 16, dtype=dtype)
        yield TritonCase("cross_entropy", (x, labels(8, 16)), grad=("input",))
        yield TritonCase("cross_entropy", (x, rows(8, 16, dtype=dtype)), grad=("input", "target"))
        yield TritonCase("nll", (-np.abs(x), labels(8, 16)), {"reduction": "sum"}, ("input",))
        yield TritonCase("bce_with_logits", (x, probabilities(8, 16, dtype=dtype)), grad=("input", "target"))
        yield TritonCase("bce", (probabilities(8, 16, dtype=dtype), probabilities(8, 16)), grad=("input",))
        yield TritonCase("kl_divergence", (-np.abs(x), rows(8, 16)), {"reduction": "batchmean"}, ("input",))
        yield TritonCase("entropy", (x,), {"kind": "logits", "base": 2.0}, ("input",))
        yield TritonCase("self_information", (probabilities(8, 16, dtype=dtype),))
        for activation in ACTIVATIONS:
            yield TritonCase(activation, (x,))
    for dtype in INTEGERS:
        yield TritonCase("cross_entropy", (logits(8, 16), labels(8, 16, dtype)))
        yield TritonCase("entropy", (RNG.integers(1, 9, (8, 16)).astype(dtype),), {"kind": "counts"})
    yield TritonCase("bce", (probabilities(8, 16), probabilities(8, 16) > 0.5))
    weights: dict[str, Any] = {"weight": probabilities(16), "row_weight": probabilities(8)}
    softened = {"label_smoothing": 0.1, "ignore_index": 3, "z_loss": 0.01, "softcap": 20.0}
    yield TritonCase("cross_entropy", (logits(8, 16), labels(8, 16)), weights | softened, ("input",))
    auxiliary = {"outputs": ("lse", "entropy", "argmax", "correct"), "reduction": "none"}
    yield TritonCase("cross_entropy", (logits(8, 16), labels(8, 16)), auxiliary, ("input",))
    distribution = {"weight": probabilities(16), "grad_output": np.array(0.5, np.float32)}
    yield TritonCase("cross_entropy", (logits(8, 16), rows(8, 16)), distribution, ("input", "target", "weight"))
    weighed = {"weight": probabilities(16), "pos_weight": probabilities(8, 1), "normalizer": 7.0}
    yield TritonCase("bce_with_logits", (logits(8, 16), probabilities(8, 16)), weighed)
    nothing = np.zeros((0, 5), np.float32), np.zeros(0, np.int64)
    yield TritonCase("cross_entropy", nothing, {"empty_mean": "zero"}, ("input",))
    yield TritonCase("softmax", (logits(2, 3, 4),), {"dim": -1})
    yield TritonCase("cross_entropy", (logits(700, 2000), labels(700, 2000)), grad=("input",))


def wrong_cases() -> Iterator[TritonCase]:
    """Which lossd's client passes on to the server."""
    x, y = logits(8, 16), labels(8, 16)
    yield TritonCase("cross_entropy", (x, y), {"label_smoothing": 1.5})
    yield TritonCase("cross_entropy", (x, y[:7]))
    yield TritonCase("cross_entropy", (x, y + 16))
    yield TritonCase("cross_entropy", (x, y > 3))
    yield TritonCase("bce", (x, y))
    yield TritonCase("bce", (probabilities(2, 2) + 2, probabilities(2, 2)))
    yield TritonCase("nll", (x, y), {"weight": probabilities(15)})
    yield TritonCase("entropy", (x,), {"base": 1.0, "kind": "logits"})
    yield TritonCase("kl_divergence", (x, x), {"reduction": "mean", "normalizer": -1.0})
    yield TritonCase("nll", (x, y), grad=("target",))
