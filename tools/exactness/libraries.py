"""Who computes: PyTorch, SciPy, JAX where it is installed, and lossd, each by the functions that it offers for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import special

import lossd
from exactness.samples import Sample

# A sample and a dtype's name → quantity → array.
Library = Callable[[Sample, str], Mapping[str, Any]]


def pytorch(sample: Sample, dtype: str) -> Mapping[str, Any]:
    """Eager, on the CPU, gradients by autograd."""
    kind = getattr(torch, dtype)
    x = torch.from_numpy(sample.x).to(kind).requires_grad_()
    other, y = torch.from_numpy(sample.other).to(kind), torch.from_numpy(sample.y)
    z = torch.from_numpy(sample.z).to(kind).requires_grad_()
    loss = F.cross_entropy(x, y, reduction="none")
    elements = F.binary_cross_entropy_with_logits(z, torch.from_numpy(sample.t).to(kind), reduction="none")
    p, q = F.log_softmax(x, 1), F.log_softmax(other, 1)
    categorical: Any = torch.distributions.Categorical(logits=x)  # partly typed
    found = {
        "cross_entropy": loss,
        "cross_entropy_gradient": torch.autograd.grad(loss.sum(), x, retain_graph=True)[0],
        "bce_with_logits": elements,
        "bce_with_logits_gradient": torch.autograd.grad(elements.sum(), z)[0],
        "entropy": categorical.entropy(),
        "log_softmax": p,
        "kl_divergence": F.kl_div(q, p, reduction="none", log_target=True).sum(1),
    }
    return {quantity: values.detach().double().numpy() for quantity, values in found.items()}


def scipy(sample: Sample, dtype: str) -> Mapping[str, Any]:
    """scipy.special; it has no gradients and no 16-bit floats."""
    x, other, z = (values.astype(dtype) for values in (sample.x, sample.other, sample.z))
    p = special.softmax(x, axis=1)
    return {
        "cross_entropy": -special.log_softmax(x, axis=1)[np.arange(len(x)), sample.y],
        "bce_with_logits": -special.log_expit(np.where(sample.t > 0, z, -z)),
        "entropy": special.entr(p).sum(axis=1),
        "log_softmax": special.log_softmax(x, axis=1),
        "kl_divergence": special.rel_entr(p, special.softmax(other, axis=1)).sum(axis=1),
    }


def jax(sample: Sample, dtype: str) -> Mapping[str, Any]:
    """jax.nn and jax.scipy.special on the CPU, gradients by jax.grad."""
    package, nn, own = (import_module(name) for name in ("jax", "jax.nn", "jax.scipy.special"))
    package.config.update("jax_enable_x64", True)
    x, other, z = (package.numpy.asarray(values, dtype=dtype) for values in (sample.x, sample.other, sample.z))
    positive, rows = sample.t > 0, np.arange(len(sample.y))

    def losses(x: Any) -> Any:
        return -nn.log_softmax(x, axis=1)[rows, sample.y]

    def elements(z: Any) -> Any:
        return -nn.log_sigmoid(package.numpy.where(positive, z, -z))

    found = {
        "cross_entropy": losses(x),
        "cross_entropy_gradient": package.grad(lambda x: losses(x).sum())(x),
        "bce_with_logits": elements(z),
        "bce_with_logits_gradient": package.grad(lambda z: elements(z).sum())(z),
        "entropy": own.entr(nn.softmax(x, axis=1)).sum(axis=1),
        "log_softmax": nn.log_softmax(x, axis=1),
        "kl_divergence": own.rel_entr(nn.softmax(x, axis=1), nn.softmax(other, axis=1)).sum(axis=1),
    }
    return {quantity: np.asarray(values).astype(np.float64) for quantity, values in found.items()}


def by_lossd(client: lossd.Client) -> Library:
    """lossd, over gRPC."""

    def library(sample: Sample, dtype: str) -> Mapping[str, Any]:
        kind = getattr(torch, dtype)  # torch's tensors, since numpy has no bfloat16 of its own
        x, other, z, t = (torch.from_numpy(v).to(kind) for v in (sample.x, sample.other, sample.z, sample.t))
        rows = client.cross_entropy(x, sample.y, reduction="none", grad=True)
        elements = client.bce_with_logits(z, t, reduction="none", grad=True)
        kl = client.kl_divergence(other, x, kind="logits", target_kind="logits", reduction="none")
        found = {
            "cross_entropy": rows.loss,
            "cross_entropy_gradient": rows.grad,
            "bce_with_logits": elements.loss,
            "bce_with_logits_gradient": elements.grad,
            "entropy": client.entropy(x, kind="logits", reduction="none").loss,
            "log_softmax": client.log_softmax(x),
            "kl_divergence": kl.loss.sum(axis=1, dtype=np.float64),
        }
        return {quantity: torch.as_tensor(values).double().numpy() for quantity, values in found.items()}

    return library


def all_of(client: lossd.Client) -> dict[str, Library]:
    """By name, in the order of the page's columns."""
    others: dict[str, Library] = {"PyTorch": pytorch, "SciPy": scipy}
    if find_spec("jax") is not None:
        others["JAX"] = jax
    return {**others, "lossd": by_lossd(client)}
