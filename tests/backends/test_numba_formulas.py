"""The numba kernels against PyTorch in float64: every formula, its options and gradients, layouts and dtypes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lossd.v1 import tensor_pb2 as pb
from lossd_server.backends.numba import NumbaBackend
from lossd_server.jobs.job import Computed, Formula, Job, Kind, Launch, Layout, Reducing, Reduction
from lossd_server.tensors.array import STORAGE, Array, View
from tests.backends.expected import DTYPES, Expected, expected

FLOAT64, FLOAT32 = pb.DATA_TYPE_FLOAT64, pb.DATA_TYPE_FLOAT32
FLOAT16, BFLOAT16 = pb.DATA_TYPE_FLOAT16, pb.DATA_TYPE_BFLOAT16
# The largest error over the largest entry: 4 ulp of float32, and half an ulp and a little of 16 bits. PyTorch in
# float64 errs by more than the kernels.
ERROR = {np.float64: 4e-14, np.float32: 4.8e-7, DTYPES[FLOAT16]: 5e-4, DTYPES[BFLOAT16]: 4e-3}
LAYOUTS = [Layout(5, 1, 1), Layout(3, 200, 1), Layout(2, 5000, 1), Layout(4, 9, 3), Layout(2, 130, 40)]
SCALE = 0.37


@pytest.fixture(scope="module")
def numba() -> Iterator[NumbaBackend]:
    backend = NumbaBackend(2)
    yield backend
    backend.close()


def array(values: npt.ArrayLike, dtype: int = FLOAT32) -> Array:
    """`values` rounded to `dtype`, as an operand."""
    rounded = np.asarray(values).astype(DTYPES[dtype])
    return Array(rounded.reshape(-1).view(STORAGE[dtype]), dtype, rounded.shape)


def indices(values: npt.ArrayLike) -> Array:
    values = np.asarray(values, np.int64)
    return Array(values.reshape(-1), pb.DATA_TYPE_INT64, values.shape)


def compute_of(dtype: int) -> np.dtype[Any]:
    return np.dtype(np.float64 if dtype == FLOAT64 else np.float32)


def of_kind(rng: np.random.Generator, kind: Kind, layout: Layout) -> npt.NDArray[np.float64]:
    """Ordinary numbers of a kind, (outer, C, inner)."""
    shape = (layout.outer, layout.classes, layout.inner)
    if kind is Kind.LOGITS:
        return rng.normal(0, 3, shape)
    if kind is Kind.COUNTS:
        return rng.integers(1, 50, shape).astype(np.float64)
    shares = rng.random(shape) + 0.01
    shares /= shares.sum(axis=1, keepdims=True)
    return np.log(shares) if kind is Kind.LOG_PROBABILITIES else shares


def row_job(formula: Formula, layout: Layout, dtype: int, seed: int, **options: Any) -> Job:
    """A job of random operands, with all gradients that the formula has."""
    rng = np.random.default_rng(seed)
    compute = compute_of(dtype)
    fields: dict[str, Any] = {"input_gradient": True}
    kind = options.get("input_kind", Kind.LOGITS)
    if formula in (Formula.ENTROPY_PROBABILITIES, Formula.ENTROPY_COUNTS):
        kind = Kind.COUNTS if formula is Formula.ENTROPY_COUNTS else Kind.PROBABILITIES
    if formula is Formula.NLL:
        fields["input_kind"] = kind = Kind.LOG_PROBABILITIES
    if formula.name.endswith("INDEX") or formula is Formula.NLL:
        labels = rng.integers(0, layout.classes, layout.rows)
        labels[rng.random(layout.rows) < 0.2] = -100
        fields["target"] = indices(labels)
    if formula.name.endswith("DISTRIBUTION"):
        shares = of_kind(rng, Kind.PROBABILITIES, layout)
        fields |= {"target": array(shares, dtype), "target_gradient": True, "weight_gradient": True}
    if formula is Formula.KL_ROWS:
        target = of_kind(rng, options["target_kind"], layout)
        fields |= {"target": array(target, dtype), "target_gradient": True}
        fields["reducing"] = Reducing(reduction=Reduction.NONE)
    if options.pop("weights", False):
        fields["class_weight"] = rng.random(layout.classes).astype(compute)
        fields["row_weight"] = rng.random(layout.rows)
        fields["row_upstream"] = rng.normal(size=layout.rows)
    if options.pop("upstream", False):
        shape = (layout.outer, layout.classes, layout.inner)
        values = rng.normal(size=shape).astype(compute)
        wide = FLOAT64 if dtype == FLOAT64 else FLOAT32
        fields["upstream"] = View(values.reshape(-1), wide, shape, (shape[1] * shape[2], shape[2], 1))
    operand = array(of_kind(rng, kind, layout), dtype)
    return Job(rpc="", formula=formula, layout=layout, compute=compute, input=operand, **fields | options)


def alone(backend: NumbaBackend, job: Job, scale: float = SCALE) -> Computed:
    return backend.run([Launch(job, scale)])[0]


def close(actual: npt.NDArray[Any] | None, wanted: npt.NDArray[Any], dtype: Any, name: str, more: float = 1.0) -> None:
    """Flat storage of `dtype` against an array of any shape. more: times the error that is accepted."""
    assert actual is not None, name
    numbers = actual.view(dtype).astype(np.float64)
    error = np.abs(numbers - wanted.reshape(-1)).max()
    # Half of the smallest subnormal; what autograd leaves of a difference that vanishes (a row of one count).
    least = 2.0**-25 if dtype is np.float16 else 1e-17
    assert error <= more * ERROR[dtype] * np.abs(wanted).max() + least, (name, error / np.abs(wanted).max())


def agree(job: Job, computed: Computed, wanted: Expected) -> None:
    """Everything that the job asked for."""
    assert computed.fault is None
    stored = DTYPES[job.input.dtype]
    wide = job.compute.type
    # Logits near a softcap and differences of logarithms are rounded as numbers of their own size.
    more = 8.0 if job.softcap else 4.0 if job.formula is Formula.KL_ROWS else 1.0
    if wanted.losses is not None:
        losses = computed.losses
        assert losses is not None
        close(losses.astype(wide), wanted.losses, wide, "losses", more)
    if job.formula.activation:
        assert wanted.values is not None
        close(computed.values, wanted.values, stored, "values", more)
    elif computed.values is not None:
        assert wanted.values is not None
        close(computed.values, wanted.values, wide, "values", more)
    if job.input_gradient:
        assert wanted.input_gradient is not None
        close(computed.input_gradient, wanted.input_gradient, stored, "input gradient", more)
    if job.target_gradient:
        assert wanted.target_gradient is not None
        close(computed.target_gradient, wanted.target_gradient, stored, "target gradient", more)
    if job.weight_gradient:
        assert wanted.weight_gradient is not None
        assert computed.weight_gradient is not None
        close(computed.weight_gradient.astype(wide), wanted.weight_gradient, wide, "weight gradient", more)
    for name in job.outputs:
        if name in ("lse", "entropy"):
            close(computed.outputs[name].astype(wide), wanted.outputs[name], wide, name, more)
        else:
            np.testing.assert_array_equal(computed.outputs[name], wanted.outputs[name].reshape(-1))


SOFTMAX_OPTIONS: list[dict[str, Any]] = [
    {},
    {"weights": True, "label_smoothing": 0.1},
    {"z_loss": 0.3, "outputs": frozenset({"lse", "entropy", "argmax", "correct"})},
    {"softcap": 2.0, "weights": True, "outputs": frozenset({"lse", "argmax"})},
    {"softcap": 5.0, "z_loss": 1e-2, "label_smoothing": 0.2},
]
DTYPES_OF_TESTS = [FLOAT32, FLOAT64, FLOAT16, BFLOAT16]


def hold(backend: NumbaBackend, formula: Formula, dtype: int, **options: Any) -> None:
    """One formula over all layouts."""
    for seed, layout in enumerate(LAYOUTS):
        job = row_job(formula, layout, dtype, seed, **options)
        agree(job, alone(backend, job), expected(job, SCALE))


@pytest.mark.parametrize("dtype", DTYPES_OF_TESTS)
@pytest.mark.parametrize("options", SOFTMAX_OPTIONS)
@pytest.mark.parametrize("formula", [Formula.CROSS_ENTROPY_INDEX, Formula.CROSS_ENTROPY_DISTRIBUTION])
def test_softmax_cross_entropy(numba: NumbaBackend, formula: Formula, options: dict[str, Any], dtype: int) -> None:
    """Cross-entropy of logits, with its options, outputs and all of its gradients."""
    if formula is Formula.CROSS_ENTROPY_DISTRIBUTION and "outputs" in options:
        options = options | {"outputs": options["outputs"] - {"correct"}}

    hold(numba, formula, dtype, **options)


@pytest.mark.parametrize("dtype", DTYPES_OF_TESTS)
@pytest.mark.parametrize("kind", [Kind.LOG_PROBABILITIES, Kind.PROBABILITIES, Kind.COUNTS])
@pytest.mark.parametrize("options", [{}, {"weights": True, "label_smoothing": 0.1}])
def test_cross_entropy_of_kinds(numba: NumbaBackend, options: dict[str, Any], kind: Kind, dtype: int) -> None:
    """Cross-entropy of (log-)probabilities and counts, against indices and distributions."""

    hold(numba, Formula.CROSS_ENTROPY_KINDS_INDEX, dtype, input_kind=kind, **options)
    hold(numba, Formula.CROSS_ENTROPY_KINDS_DISTRIBUTION, dtype, input_kind=kind, **options)


@pytest.mark.parametrize("dtype", DTYPES_OF_TESTS)
def test_nll(numba: NumbaBackend, dtype: int) -> None:
    """NLL picks one entry a row; the gradient is 0 elsewhere."""

    hold(numba, Formula.NLL, dtype, weights=True)


@pytest.mark.parametrize("dtype", DTYPES_OF_TESTS)
@pytest.mark.parametrize("upstream", [False, True])
@pytest.mark.parametrize("target_kind", [Kind.LOGITS, Kind.LOG_PROBABILITIES, Kind.PROBABILITIES])
@pytest.mark.parametrize("kind", list(Kind))
def test_kl_of_rows(numba: NumbaBackend, kind: Kind, target_kind: Kind, upstream: bool, dtype: int) -> None:
    """KL divergence of every pair of kinds, with one scale for all and with one for each element."""

    hold(numba, Formula.KL_ROWS, dtype, input_kind=kind, target_kind=target_kind, upstream=upstream)


@pytest.mark.parametrize("dtype", DTYPES_OF_TESTS)
@pytest.mark.parametrize("formula", [Formula.SOFTMAX, Formula.LOG_SOFTMAX])
def test_activations_of_rows(numba: NumbaBackend, formula: Formula, dtype: int) -> None:
    """softmax and log-softmax have the input's dtype; their gradients are the upstream's times the Jacobian."""

    hold(numba, formula, dtype, upstream=True)
    if formula is Formula.LOG_SOFTMAX:
        hold(numba, formula, dtype)


@pytest.mark.parametrize("dtype", DTYPES_OF_TESTS)
@pytest.mark.parametrize("formula", [Formula.ENTROPY_LOGITS, Formula.ENTROPY_PROBABILITIES, Formula.ENTROPY_COUNTS])
def test_entropy(numba: NumbaBackend, formula: Formula, dtype: int) -> None:
    """Entropy of logits, probabilities and counts, with weights of rows."""

    hold(numba, formula, dtype, weights=True)


ELEMENTWISE: list[tuple[Formula, dict[str, Any]]] = [
    (Formula.BCE, {}),
    (Formula.BCE_WITH_LOGITS, {}),
    (Formula.SELF_INFORMATION, {}),
    (Formula.SIGMOID, {}),
    (Formula.LOG_SIGMOID, {}),
    *[
        (Formula.KL, {"input_kind": kind, "target_kind": other})
        for kind in (Kind.PROBABILITIES, Kind.LOG_PROBABILITIES)
        for other in (Kind.PROBABILITIES, Kind.LOG_PROBABILITIES)
    ],
]


def element_job(formula: Formula, shape: tuple[int, ...], dtype: int, **options: Any) -> Job:
    """A job of random operands with all gradients, single losses and an upstream gradient."""
    rng = np.random.default_rng(len(shape))
    wide = FLOAT64 if dtype == FLOAT64 else FLOAT32

    def view(kept: set[int]) -> View:
        small = rng.random([size if axis in kept else 1 for axis, size in enumerate(shape)]).astype(compute_of(dtype))
        steps = [small.strides[axis] // small.itemsize if small.shape[axis] > 1 else 0 for axis in range(len(shape))]
        return View(small.reshape(-1), wide, shape, tuple(steps))

    def drawn(kind: Kind) -> Array:
        if kind is Kind.LOGITS:
            return array(rng.normal(0, 4, shape), dtype)
        values = rng.random(shape) * 0.9 + 0.05
        return array(np.log(values) if kind is Kind.LOG_PROBABILITIES else values, dtype)

    fields: dict[str, Any] = {}
    kind = options.get("input_kind", Kind.PROBABILITIES)
    if formula in (Formula.BCE_WITH_LOGITS, Formula.SIGMOID, Formula.LOG_SIGMOID):
        kind = Kind.LOGITS
    if formula in (Formula.BCE, Formula.BCE_WITH_LOGITS, Formula.KL):
        fields |= {"target": drawn(options.get("target_kind", Kind.PROBABILITIES)), "target_gradient": True}
    if formula in (Formula.BCE, Formula.BCE_WITH_LOGITS):
        fields["weight"] = view({0, len(shape) - 1})
    if formula is Formula.BCE_WITH_LOGITS:
        fields["pos_weight"] = view({1})
    return Job(
        rpc="", formula=formula, layout=Layout(shape[0], int(np.prod(shape[1:])), 1), compute=compute_of(dtype),
        input=drawn(kind), upstream=view(set(range(len(shape)))), reducing=Reducing(reduction=Reduction.NONE),
        input_gradient=True, **fields | options,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES_OF_TESTS)
@pytest.mark.parametrize("formula, options", ELEMENTWISE)
def test_elements(numba: NumbaBackend, formula: Formula, options: dict[str, Any], dtype: int) -> None:
    """Elementwise losses and activations, their gradients, broadcast weights, and the sums of chunks."""
    for shape in ((5, 7), (3, 4097), (2, 3, 4, 5)):
        job = element_job(formula, shape, dtype, **options)
        computed, wanted = alone(numba, job), expected(job, SCALE)

        agree(job, computed, wanted)
        if wanted.losses is not None:
            assert computed.chunk_sums is not None
            close(
                np.array([computed.chunk_sums.sum()]).astype(np.float32),
                np.array([wanted.losses.sum()]),
                np.float32,
                "",
            )


@pytest.mark.parametrize("target_kind", [Kind.LOGITS, Kind.PROBABILITIES])
@pytest.mark.parametrize("top", [0, 4000, 4096, 8192])
def test_kl_of_long_rows(numba: NumbaBackend, top: int, target_kind: Kind) -> None:
    """The greatest logit may lie in any block of a row."""
    job = row_job(Formula.KL_ROWS, Layout(1, 8193, 1), FLOAT32, 7, input_kind=Kind.LOGITS, target_kind=target_kind)
    logits = job.input.values.copy()
    logits[top] = 15.0
    job = replace(job, input=array(logits.reshape(1, 8193, 1)))

    agree(job, alone(numba, job), expected(job, SCALE))
