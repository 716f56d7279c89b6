"""Values at the edge, in the numba kernels: zeros, infinities, NaN, confidence, faults, nothing at all."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lossd.v1 import tensor_pb2 as pb
from lossd_server.backends.numba import NumbaBackend
from lossd_server.jobs.job import Computed, Fault, Formula, Job, Kind, Launch, Layout, Reducing, Reduction
from lossd_server.tensors.array import Array

INF, NAN = math.inf, math.nan
TYPES = [np.float32, np.float64]
LOGITS, LOGARITHMS, SHARES = Kind.LOGITS, Kind.LOG_PROBABILITIES, Kind.PROBABILITIES


@pytest.fixture(scope="module")
def numba() -> Iterator[NumbaBackend]:
    backend = NumbaBackend(1)
    yield backend
    backend.close()


def array(values: npt.ArrayLike, dtype: Any) -> Array:
    numbers = np.asarray(values, dtype)
    wire = {np.float32: pb.DATA_TYPE_FLOAT32, np.float64: pb.DATA_TYPE_FLOAT64, np.int64: pb.DATA_TYPE_INT64}[dtype]
    return Array(numbers.reshape(-1), wire, numbers.shape)


def run(backend: NumbaBackend, formula: Formula, dtype: Any, x: Any, t: Any = None, **options: Any) -> Computed:
    """x: rows of classes, or elements; t: as x, or indices. Single losses and all gradients."""
    given = array(np.atleast_2d(np.asarray(x, np.float64)), dtype)
    by_index = formula.name.endswith("INDEX") or formula is Formula.NLL
    target = None if t is None else array(t, np.int64 if by_index else dtype)
    job = Job(
        rpc="", formula=formula, layout=Layout(given.shape[0], given.shape[1], 1), compute=np.dtype(dtype),
        input=given, target=target, reducing=Reducing(reduction=Reduction.NONE), input_gradient=True,
        target_gradient=target is not None and not by_index, **options,
    )  # fmt: skip
    return backend.run([Launch(job, 1.0)])[0]


def holds(actual: npt.NDArray[Any] | None, wanted: Any, rtol: float = 3e-7) -> None:
    assert actual is not None
    np.testing.assert_allclose(actual, np.asarray(wanted, np.float64).reshape(-1), rtol=rtol, atol=0)


@pytest.mark.parametrize("dtype", TYPES)
def test_kl_of_zeros(numba: NumbaBackend, dtype: Any) -> None:
    """A target of 0 costs nothing, whatever q is; its slope is the one-sided limit."""
    found = run(numba, Formula.KL, dtype, [0.0, 0.5, 0.0], [0.0, 0.0, 0.25], input_kind=SHARES, target_kind=SHARES)

    holds(found.losses, [0, 0, INF])
    holds(found.input_gradient, [0, 0, -INF])
    holds(found.target_gradient, [INF, -INF, INF])


@pytest.mark.parametrize("dtype", TYPES)
def test_kl_of_logarithms_of_zero(numba: NumbaBackend, dtype: Any) -> None:
    """A logarithm of −∞ as target costs nothing and has no slope; NaN stays in its element."""
    found = run(
        numba, Formula.KL, dtype, [-INF, -1.0, NAN, -1.0], [-INF, -INF, -2.0, -1.0],
        input_kind=LOGARITHMS, target_kind=LOGARITHMS,
    )  # fmt: skip

    holds(found.losses, [0, 0, NAN, 0])
    holds(found.target_gradient, [0, 0, NAN, math.exp(-1)])


@pytest.mark.parametrize("dtype", TYPES)
def test_kl_of_near_equals(numba: NumbaBackend, dtype: Any) -> None:
    """The divergence of nearly equal probabilities keeps its digits: ln(p / q) is not a difference."""
    p = np.array([0.3, 1e-3, 0.9], dtype)
    q = p * (1 + 64 * np.finfo(dtype).eps)
    found = run(numba, Formula.KL, dtype, q, p, input_kind=SHARES, target_kind=SHARES)

    exact = [float(a) * math.log1p((float(a) - float(b)) / float(b)) for a, b in zip(p, q.astype(dtype), strict=True)]
    holds(found.losses, exact)


@pytest.mark.parametrize("dtype", TYPES)
def test_rows_of_kinds_at_zero(numba: NumbaBackend, dtype: Any) -> None:
    """A probability of 0 costs +∞ under a target and nothing without one; a count of 0 likewise."""
    t = [[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]
    formula = Formula.CROSS_ENTROPY_KINDS_DISTRIBUTION
    of_shares = run(numba, formula, dtype, [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], t, input_kind=SHARES)
    of_counts = run(numba, formula, dtype, [[7.0, 0.0, 0.0], [0.0, 2.0, 2.0]], t, input_kind=Kind.COUNTS)

    holds(of_shares.losses, [0, INF])
    holds(of_shares.input_gradient, [-1, 0, 0, 0, -INF, -INF])
    holds(of_counts.losses, [0, math.log(2)])
    holds(of_counts.input_gradient, [0, 1 / 7, 1 / 7, 0.25, 0, 0], rtol=1e-6)


@pytest.mark.parametrize("dtype", TYPES)
def test_picks(numba: NumbaBackend, dtype: Any) -> None:
    """NLL looks at the target's entry alone: NaN elsewhere and in ignored rows is not seen."""
    found = run(numba, Formula.NLL, dtype, [[NAN, -2.0], [NAN, NAN], [-1.0, -INF]], [1, -100, 1], input_kind=LOGARITHMS)

    holds(found.losses, [2, 0, INF])
    holds(found.input_gradient, [0, -1, 0, 0, 0, -1])


@pytest.mark.parametrize("dtype", TYPES)
def test_confident_divergence(numba: NumbaBackend, dtype: Any) -> None:
    """KL from one-hot to logits that are sure of it is exp(−gap), loss and slopes, to all digits."""
    gap = 30.0
    found = run(numba, Formula.KL_ROWS, dtype, [[gap, 0.0]], [[1.0, 0.0]], input_kind=LOGITS, target_kind=SHARES)

    small = math.exp(-gap)
    holds(found.losses, [small])
    holds(found.input_gradient, [-small, small])


@pytest.mark.parametrize("dtype", TYPES)
def test_activations_of_extremes(numba: NumbaBackend, dtype: Any) -> None:
    """−∞ has probability 0; a row without a finite maximum is NaN; a constant upstream has no slope through softmax."""
    x = [[0.0, -INF, 0.0], [-INF, -INF, -INF], [1e4, 1e4 - 2, -1e4], [NAN, 0.0, 0.0]]
    p = 1 / (1 + math.exp(-2))
    softmax = run(numba, Formula.SOFTMAX, dtype, x)
    logs = run(numba, Formula.LOG_SOFTMAX, dtype, x)

    holds(softmax.values, [[0.5, 0, 0.5], [NAN] * 3, [p, 1 - p, 0], [NAN] * 3])
    holds(
        logs.values,
        [[-math.log(2), -INF, -math.log(2)], [NAN] * 3, [math.log(p), math.log(1 - p), -2e4 + math.log(p)], [NAN] * 3],
    )
    assert softmax.input_gradient is not None
    assert np.all(softmax.input_gradient.reshape(4, 3)[[0, 2]] == 0)


@pytest.mark.parametrize("dtype", TYPES)
def test_sigmoids_of_extremes(numba: NumbaBackend, dtype: Any) -> None:
    """Both tails keep their digits, and ±∞ its limits."""
    x = [-INF, -50.0, 0.0, 50.0, INF, NAN]
    sigmoid = run(numba, Formula.SIGMOID, dtype, x)
    logs = run(numba, Formula.LOG_SIGMOID, dtype, x)

    tail = math.exp(-50)
    holds(sigmoid.values, [0, tail, 0.5, 1, 1, NAN])
    holds(sigmoid.input_gradient, [0, tail, 0.25, tail, 0, NAN])
    holds(logs.values, [-INF, -50, -math.log(2), -tail, 0, NAN])
    holds(logs.input_gradient, [1, 1, 0.5, tail, 0, NAN])


@pytest.mark.parametrize("dtype", TYPES)
def test_softcap_of_extremes(numba: NumbaBackend, dtype: Any) -> None:
    """Beyond the cap the slope is 4·exp(−2|x / k|), not 0; infinite logits are the cap itself."""
    x, k = [[40.0, 0.0, -INF, INF]], 4.0
    found = run(
        numba, Formula.CROSS_ENTROPY_INDEX, dtype, x, [1], softcap=k, outputs=frozenset({"lse", "argmax", "correct"})
    )

    e = np.exp([k, 0.0, -k, k])
    holds(found.outputs["lse"], [math.log(e.sum())], rtol=1e-6)
    small = 4 * math.exp(-20) * e[0] / e.sum()
    holds(found.input_gradient, [small, e[1] / e.sum() - 1, 0, 0], rtol=2e-6)
    assert found.outputs["correct"].tolist() == [0]


@pytest.mark.parametrize("classes", [3, 300])
def test_outputs_of_odd_rows(numba: NumbaBackend, classes: int) -> None:
    """argmax is the first of equals and −1 where there is NaN; an ignored row has it too, and is never correct."""
    x = np.zeros((4, classes))
    x[0, 1:] = 5.0
    x[1, 2] = NAN
    x[2, 1] = 1.0
    outputs = frozenset({"argmax", "correct", "lse"})
    found = run(numba, Formula.CROSS_ENTROPY_INDEX, np.float32, x, [1, 0, -100, 0], outputs=outputs)

    assert found.outputs["argmax"].tolist() == [1, -1, 1, 0]
    assert found.outputs["correct"].tolist() == [1, 0, 0, 1]
    holds(found.outputs["lse"][2:], [math.log(classes - 1 + math.e), math.log(classes)])
    assert math.isnan(found.outputs["lse"][1])


def test_first_fault(numba: NumbaBackend) -> None:
    """The lowest index is named, the input before the target of the same element."""
    x, t = np.full(6000, 0.5), np.full(6000, 0.5)
    x[[4500, 5000]], t[[4500, 4400]] = 2.0, -1.0
    both = run(numba, Formula.BCE, np.float32, x, [t])
    t[4400] = 0.5

    assert both.fault == (Fault.TARGET_NOT_PROBABILITY, 4400)
    assert run(numba, Formula.BCE, np.float32, x, [t]).fault == (Fault.INPUT_NOT_PROBABILITY, 4500)


def test_faults_of_rows(numba: NumbaBackend) -> None:
    """Counts below 0, rows of no counts and targets that are no class are found."""
    formula = Formula.CROSS_ENTROPY_KINDS_INDEX
    counts = {"input_kind": Kind.COUNTS}

    assert run(numba, formula, np.float32, [[1, 2], [1, -1]], [0, 0], **counts).fault == (Fault.NEGATIVE_COUNT, 3)
    assert run(numba, formula, np.float32, [[1, 2], [0, 0]], [0, 0], **counts).fault == (Fault.EMPTY_COUNTS, 1)
    assert run(numba, formula, np.float32, [[1, 2], [0, -1]], [0, -100], **counts).fault is None
    assert run(numba, formula, np.float32, [[1, 2]], [2], **counts).fault == (Fault.CLASS_OUT_OF_RANGE, 0)
    assert run(numba, Formula.NLL, np.float32, [[1, 2]], [-1]).fault == (Fault.CLASS_OUT_OF_RANGE, 0)


@pytest.mark.parametrize("formula", list(Formula))
def test_nothing(numba: NumbaBackend, formula: Formula) -> None:
    """A job without rows has empty answers."""
    x = np.zeros((0, 3))
    found = run(numba, formula, np.float32, x, np.zeros(0 if "INDEX" in formula.name else (0, 3)))

    assert found.fault is None
    assert found.input_gradient is not None
    assert found.input_gradient.size == 0
