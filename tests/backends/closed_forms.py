"""Every formula of a Job in float64, by numpy, and in plain form: what the kernels' numbers are held against."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from lossd.v1 import tensor_pb2 as pb
from lossd_server.jobs.job import Formula, Job, Kind
from lossd_server.tensors.array import Array, View

Float64 = npt.NDArray[np.float64]
DTYPES: dict[int, Any] = {
    pb.DATA_TYPE_FLOAT64: np.float64,
    pb.DATA_TYPE_FLOAT32: np.float32,
    pb.DATA_TYPE_FLOAT16: np.float16,
    pb.DATA_TYPE_BFLOAT16: ml_dtypes.bfloat16,
}


@dataclass
class Expected:
    """As Computed, in the input's shape (outer, C, inner) or one entry a row (outer, inner)."""

    losses: Float64 | None = None
    values: Float64 | None = None
    input_gradient: Float64 | None = None
    target_gradient: Float64 | None = None
    weight_gradient: Float64 | None = None
    outputs: dict[str, npt.NDArray[Any]] = field(default_factory=dict)


def numbers(operand: Array | View) -> Float64:
    """What the operand's bits mean, flat."""
    values: Float64 = operand.values.view(DTYPES[operand.dtype]).astype(np.float64)
    return values


def log_softmax(x: Float64) -> Float64:
    """Along axis 1, by one maximum."""
    gap = x - x.max(axis=1, keepdims=True)
    result: Float64 = gap - np.log(np.exp(gap).sum(axis=1, keepdims=True))
    return result


def logarithms(x: Float64, kind: Kind) -> Float64:
    """ln q of an operand of any kind, (outer, C, inner)."""
    if kind is Kind.LOGITS:
        return log_softmax(x)
    if kind is Kind.LOG_PROBABILITIES:
        return x
    return np.log(x / x.sum(axis=1, keepdims=True) if kind is Kind.COUNTS else x)


def slopes(a: Float64, x: Float64, kind: Kind) -> Float64:
    """d/dx of −Σ a·ln q along axis 1."""
    whole: Float64 = a.sum(axis=1, keepdims=True)
    if kind is Kind.LOGITS:
        return np.exp(log_softmax(x)) * whole - a
    if kind is Kind.LOG_PROBABILITIES:
        return -a
    if kind is Kind.PROBABILITIES:
        return -a / x
    norm: Float64 = x.sum(axis=1, keepdims=True)
    return whole / norm - a / x


def expected(job: Job, scale: float) -> Expected:
    """The answers of a job of finite, ordinary numbers."""
    layout = job.layout
    shape = (layout.outer, layout.classes, layout.inner)
    x = numbers(job.input).reshape(shape)
    if job.formula.elementwise:
        return elements(job, x, scale)
    rows = np.ones((layout.outer, layout.inner))
    weight = rows if job.row_weight is None else job.row_weight.reshape(rows.shape)
    upstream = rows if job.row_upstream is None else job.row_upstream.reshape(rows.shape)
    factor = (scale * weight * upstream)[:, None, :]
    single = np.ones(shape) if job.upstream is None else numbers(job.upstream).reshape(shape)
    if job.formula is Formula.SOFTMAX:
        p = np.exp(log_softmax(x))
        return Expected(values=p, input_gradient=scale * p * (single - (single * p).sum(axis=1, keepdims=True)))
    if job.formula is Formula.LOG_SOFTMAX:
        log_p = log_softmax(x)
        gradient = scale * (single - np.exp(log_p) * single.sum(axis=1, keepdims=True))
        return Expected(values=log_p, input_gradient=gradient)
    if job.formula is Formula.KL_ROWS:
        return divergence(job, x, scale * single)
    if job.formula in (Formula.ENTROPY_LOGITS, Formula.ENTROPY_PROBABILITIES, Formula.ENTROPY_COUNTS):
        return entropy(job, x, weight, factor)
    return cross_entropy(job, x, weight, factor)


def entropy(job: Job, x: Float64, weight: Float64, factor: Float64) -> Expected:
    kinds = {Formula.ENTROPY_LOGITS: Kind.LOGITS, Formula.ENTROPY_COUNTS: Kind.COUNTS}
    log_q = logarithms(x, kinds.get(job.formula, Kind.PROBABILITIES))
    q = np.exp(log_q)
    loss = -(q * log_q).sum(axis=1)
    if job.formula is Formula.ENTROPY_LOGITS:
        slope = -q * (log_q + loss[:, None, :])
    elif job.formula is Formula.ENTROPY_COUNTS:
        slope = -(log_q + loss[:, None, :]) / x.sum(axis=1, keepdims=True)
    else:
        slope = -(log_q + 1)
    return Expected(losses=weight * loss, input_gradient=factor * slope)


def cross_entropy(job: Job, x: Float64, weight: Float64, factor: Float64) -> Expected:
    assert job.target is not None
    classes = job.layout.classes
    kind = Kind.LOGITS if job.formula.name in ("CROSS_ENTROPY_INDEX", "CROSS_ENTROPY_DISTRIBUTION") else job.input_kind
    w = np.ones(classes) if job.class_weight is None else job.class_weight.astype(np.float64)
    w = w[None, :, None]
    kept = np.ones(weight.shape)
    y = np.full(weight.shape, -1)
    if job.formula.name.endswith("INDEX") or job.formula is Formula.NLL:
        y = job.target.values.reshape(weight.shape)
        kept = (y != job.ignore_index).astype(np.float64)
        t = (np.arange(classes)[None, :, None] == y[:, None, :]).astype(np.float64)
    else:
        t = numbers(job.target).reshape(x.shape)
    keep = 1 - job.label_smoothing
    mixed = keep * t + job.label_smoothing / classes
    slope = np.ones(x.shape)
    if job.softcap:
        slope = 1 / np.cosh(x / job.softcap) ** 2
        x = job.softcap * np.tanh(x / job.softcap)
    log_q = logarithms(x, kind)
    loss = -(w * mixed * log_q).sum(axis=1)
    gradient = slopes(w * mixed, x, kind)
    found = Expected()
    if kind is Kind.LOGITS:
        m = x.max(axis=1)
        lse = m + np.log(np.exp(x - m[:, None, :]).sum(axis=1))
        loss = loss + job.z_loss * lse**2
        gradient = (gradient + 2 * job.z_loss * lse[:, None, :] * np.exp(log_q)) * slope
        top = x.argmax(axis=1)
        found.outputs = {
            "lse": lse,
            "entropy": -(np.exp(log_q) * log_q).sum(axis=1),
            "argmax": top,
            "correct": (top == y) & (kept > 0),
        }
    found.losses = kept * weight * loss
    found.input_gradient = kept[:, None, :] * factor * gradient
    found.target_gradient = factor * keep * w * -log_q
    found.weight_gradient = (factor * mixed * -log_q).sum(axis=(0, 2))
    return found


def divergence(job: Job, x: Float64, s: Float64) -> Expected:
    assert job.target is not None
    z = numbers(job.target).reshape(x.shape)
    u, v = logarithms(x, job.input_kind), logarithms(z, job.target_kind)
    t = np.exp(v)
    gap = v - u
    if job.target_kind is Kind.LOGITS:
        h = s * (gap + 1)
        target = t * (h - (t * h).sum(axis=1, keepdims=True))
    else:
        target = s * (gap + 1) * (t if job.target_kind is Kind.LOG_PROBABILITIES else 1.0)
    return Expected(
        losses=(t * gap).sum(axis=1),
        values=t * gap,
        input_gradient=slopes(s * t, x, job.input_kind),
        target_gradient=target,
    )


def elements(job: Job, x: Float64, scale: float) -> Expected:
    def spread(view: View | None) -> Float64:
        if view is None:
            return np.ones(x.shape)
        full = np.zeros(view.shape)
        for index in np.ndindex(*view.shape):
            full[index] = numbers(view)[sum(i * step for i, step in zip(index, view.strides, strict=True))]
        return full.reshape(x.shape)

    t = np.zeros(x.shape) if job.target is None else numbers(job.target).reshape(x.shape)
    w, pw, s = spread(job.weight), spread(job.pos_weight), scale * spread(job.upstream)
    p = 1 / (1 + np.exp(-x))
    if job.formula is Formula.SIGMOID:
        return Expected(values=p, input_gradient=s * p * (1 / (1 + np.exp(x))))
    if job.formula is Formula.LOG_SIGMOID:
        return Expected(values=-np.logaddexp(0, -x), input_gradient=s * (1 / (1 + np.exp(x))))
    if job.formula is Formula.SELF_INFORMATION:
        return Expected(losses=-np.log(x), input_gradient=-s / x)
    if job.formula is Formula.BCE:
        hit, miss = np.log(x), np.log1p(-x)
        loss = -(t * hit + (1 - t) * miss)
        return Expected(
            losses=w * loss, input_gradient=s * w * (x - t) / (x * (1 - x)), target_gradient=s * w * (miss - hit)
        )
    if job.formula is Formula.BCE_WITH_LOGITS:
        hit, miss = np.logaddexp(0, -x), np.logaddexp(0, x)
        gradient = s * w * ((1 - t) * p - pw * t * (1 - p))
        return Expected(w * (pw * t * hit + (1 - t) * miss), None, gradient, s * w * (pw * hit - miss))
    u, v = logarithms(x, job.input_kind), logarithms(t, job.target_kind)
    q = np.exp(v)
    of_log = job.target_kind is Kind.LOG_PROBABILITIES
    return Expected(
        losses=q * (v - u),
        input_gradient=slopes(s * q, x, job.input_kind),
        target_gradient=s * (v - u + 1) * (q if of_log else 1.0),
    )
