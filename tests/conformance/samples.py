"""PyTorch's own samples of its losses (OpInfo and ModuleInfo), as calls of the client's methods."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# PyTorch's name → the client's, and the function that computes it.
OPERATIONS = {
    "nn.functional.cross_entropy": "cross_entropy",
    "nn.functional.nll_loss": "nll",
    "nn.functional.binary_cross_entropy": "bce",
    "nn.functional.binary_cross_entropy_with_logits": "bce_with_logits",
    "nn.functional.kl_div": "kl_divergence",
}
MODULES = {
    "nn.CrossEntropyLoss": "cross_entropy",
    "nn.NLLLoss": "nll",
    "nn.BCELoss": "bce",
    "nn.BCEWithLogitsLoss": "bce_with_logits",
    "nn.KLDivLoss": "kl_divergence",
}
FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": F.cross_entropy,
    "nll": F.nll_loss,
    "bce": F.binary_cross_entropy,
    "bce_with_logits": F.binary_cross_entropy_with_logits,
    "kl_divergence": F.kl_div,
}
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Sample:
    """A call of `FUNCTIONS[method]`, and of the client's method by the same arguments."""

    name: str
    method: str
    input: Tensor
    target: Tensor
    options: dict[str, Any]

    @property
    def differentiable(self) -> tuple[str, ...]:
        """The tensors that have a gradient in both: targets that are floats, too."""
        return ("input", "target") if self.target.is_floating_point() else ("input",)

    def converted(self, dtype: torch.dtype) -> Sample:
        """The same numbers, its floats as `dtype`."""

        def to(value: Any) -> Any:
            return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

        options = {name: to(value) for name, value in self.options.items()}
        return Sample(self.name, self.method, to(self.input), to(self.target), options)

    def compute(self, grad_output: Tensor | None) -> dict[str, Tensor]:
        """PyTorch's "loss" and gradients by name. grad_output: of the loss's shape."""
        leaves = {name: getattr(self, name).detach().clone().requires_grad_() for name in self.differentiable}
        target = leaves.get("target", self.target)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # kl_div's mean is not its definition's
            loss = FUNCTIONS[self.method](leaves["input"], target, **self.options)
        loss.backward(torch.ones_like(loss) if grad_output is None else grad_output.to(loss.dtype))  # type: ignore[no-untyped-call]
        grads = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
        return {"loss": loss.detach()} | grads


def operations() -> dict[str, Any]:
    """PyTorch's OpInfo entries by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what importing PyTorch's tests warns of is its own affair
        from torch.testing._internal.common_methods_invocations import op_db
    return {op.name: op for op in op_db if op.name in OPERATIONS}


def modules() -> dict[str, Any]:
    """PyTorch's ModuleInfo entries by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_modules import module_db
    return {module.name: module for module in module_db if module.name in MODULES}


def of_operation(name: str, dtype: torch.dtype) -> Iterator[Sample]:
    torch.manual_seed(0)
    for number, sample in enumerate(operations()[name].sample_inputs("cpu", dtype, requires_grad=True)):
        yield _sample(f"{name}[{number}]", OPERATIONS[name], (sample.input, *sample.args), sample.kwargs)


def of_module(name: str, dtype: torch.dtype) -> Iterator[Sample]:
    torch.manual_seed(0)
    info = modules()[name]
    inputs = info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=True, training=True)
    for number, given in enumerate(inputs):
        made, forward = given.constructor_input, given.forward_input
        arguments = made.kwargs | forward.kwargs
        yield _sample(f"{name}[{number}] {given.desc}", MODULES[name], (*forward.args, *made.args), arguments)


def errors_of_operation(name: str) -> Iterator[Sample]:
    info = operations()[name]
    for number, error in enumerate(info.error_inputs("cpu") if info.error_inputs_func else ()):
        sample = error.sample_input
        yield _sample(f"{name} error[{number}]", OPERATIONS[name], (sample.input, *sample.args), sample.kwargs)


def errors_of_module(name: str, dtype: torch.dtype) -> Iterator[Sample]:
    """Those whose forward pass fails: what PyTorch's constructors refuse, its functions refuse too."""
    info = modules()[name]
    if info.module_error_inputs_func is None:
        return
    errors = info.module_error_inputs_func(info, device="cpu", dtype=dtype, requires_grad=False, training=True)
    for number, error in enumerate(errors):
        given = error.module_error_input
        made, forward = given.constructor_input, given.forward_input
        arguments = made.kwargs | forward.kwargs
        regex = str(error.error_regex)[:60]
        yield _sample(f"{name} error[{number}] {regex}", MODULES[name], (*forward.args, *made.args), arguments)


def _sample(name: str, method: str, tensors: tuple[Any, ...], options: dict[str, Any]) -> Sample:
    if len(tensors) != 2:
        raise TypeError(f"{name} has {len(tensors)} positional arguments, not input and target")
    input, target = (tensor.detach() for tensor in tensors)
    plain = {key: value.detach() if isinstance(value, Tensor) else value for key, value in options.items()}
    return Sample(name, method, input, target, plain)
