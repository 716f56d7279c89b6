"""8-bit floats in the numba kernels: the bits of the same numbers as float32, wherever they are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lossd.v1 import tensor_pb2 as pb
from lossd_server.backends.numba import NumbaBackend
from lossd_server.jobs.job import Computed, Formula, Job, Kind, Launch, Layout, Reducing, Reduction
from lossd_server.tensors.array import Array
from lossd_server.tensors.dtypes import float8_values

FLOATS8 = {"e4m3fn": pb.DATA_TYPE_FLOAT8_E4M3FN, "e5m2": pb.DATA_TYPE_FLOAT8_E5M2}
# A row a lane, rows in groups (whole vectors and a tail), one block, many; and rows that lie apart.
LAYOUTS = [
    Layout(70, 7, 1),
    Layout(33, 192, 1),
    Layout(5, 1001, 1),
    Layout(2, 9000, 1),
    Layout(3, 6, 40),
    Layout(2, 300, 5),
]
FINITE = {"e4m3fn": 0x7F, "e5m2": 0x7C}  # bytes below are finite and ≥ 0
ONE = {"e4m3fn": 0x38, "e5m2": 0x3C}
PROBABILITIES, LOGARITHMS = Kind.PROBABILITIES, Kind.LOG_PROBABILITIES
OUTPUTS = frozenset({"lse", "entropy", "argmax", "correct"})
# Formula, options, whether inputs are shares in [0, 1], whether it has a target of the same kind.
CASES: dict[str, tuple[Formula, dict[str, Any], bool, bool]] = {
    "cross_entropy": (Formula.CROSS_ENTROPY_INDEX, {}, False, False),
    "cross_entropy with outputs": (Formula.CROSS_ENTROPY_INDEX, {"outputs": OUTPUTS, "softcap": 9.0}, False, False),
    "smoothed": (Formula.CROSS_ENTROPY_INDEX, {"label_smoothing": 0.1}, False, False),
    "distribution": (Formula.CROSS_ENTROPY_DISTRIBUTION, {"weight_gradient": True}, True, True),
    "nll": (Formula.NLL, {"input_kind": LOGARITHMS}, False, False),
    "of probabilities": (
        Formula.CROSS_ENTROPY_KINDS_DISTRIBUTION,
        {"input_kind": PROBABILITIES, "target_kind": PROBABILITIES},
        True,
        True,
    ),
    "entropy of logits": (Formula.ENTROPY_LOGITS, {}, False, False),
    "entropy of probabilities": (Formula.ENTROPY_PROBABILITIES, {"input_kind": PROBABILITIES}, True, False),
    "entropy of counts": (Formula.ENTROPY_COUNTS, {"input_kind": Kind.COUNTS}, True, False),
    "softmax": (Formula.SOFTMAX, {}, False, False),
    "log_softmax": (Formula.LOG_SOFTMAX, {}, False, False),
    "kl by rows": (Formula.KL_ROWS, {"input_kind": Kind.LOGITS, "target_kind": PROBABILITIES}, True, True),
    "kl": (Formula.KL, {"input_kind": PROBABILITIES, "target_kind": PROBABILITIES}, True, True),
    "bce": (Formula.BCE, {}, True, True),
    "bce_with_logits": (Formula.BCE_WITH_LOGITS, {}, True, True),
    "self_information": (Formula.SELF_INFORMATION, {"input_kind": PROBABILITIES}, True, False),
    "sigmoid": (Formula.SIGMOID, {}, False, False),
    "log_sigmoid": (Formula.LOG_SIGMOID, {}, False, False),
}
INDEXED = {Formula.CROSS_ENTROPY_INDEX, Formula.NLL}


@pytest.fixture(scope="module")
def numba() -> Iterator[NumbaBackend]:
    backend = NumbaBackend(2)
    yield backend
    backend.close()


def job_of(case: str, layout: Layout, kind: str, compute: npt.DTypeLike, rng: np.random.Generator) -> Job:
    """Random bytes, of which one in a hundred is any of the 256 where the formula takes any."""
    formula, options, shares, targeted = CASES[case]
    if formula.elementwise:
        layout = Layout(layout.outer, layout.classes * layout.inner, 1)
    shape = (layout.outer, layout.classes, layout.inner)

    def operand() -> Array:
        size = layout.elements
        if shares:
            values = rng.integers(1, ONE[kind] + 1, size, dtype=np.uint8)
        else:
            values = rng.integers(0, FINITE[kind], size, dtype=np.uint8)
            values[rng.random(size) < 0.5] |= 0x80
            anything = rng.random(size) < 0.01
            values[anything] = rng.integers(0, 256, int(anything.sum()), dtype=np.uint8)
        return Array(values, FLOATS8[kind], shape)

    fields_: dict[str, Any] = {"input_gradient": True, "reducing": Reducing(reduction=Reduction.NONE)}
    if formula in INDEXED:
        labels = rng.integers(0, layout.classes, layout.rows)
        labels[::7] = -100
        fields_["target"] = Array(labels, pb.DATA_TYPE_INT64, (layout.outer, layout.inner))
    elif targeted:
        fields_ |= {"target": operand(), "target_gradient": True}
    return Job(rpc="", formula=formula, layout=layout, compute=np.dtype(compute), input=operand(), **fields_ | options)


def widened(operand: Array | None) -> Array | None:
    if operand is None or operand.dtype not in FLOATS8.values():
        return operand
    return Array(float8_values(operand.dtype)[operand.values], pb.DATA_TYPE_FLOAT32, operand.shape)


def same_bits(found: Computed, wanted: Computed) -> None:
    for field in fields(Computed):
        got, expected = getattr(found, field.name), getattr(wanted, field.name)
        if isinstance(expected, np.ndarray):
            assert got.dtype == expected.dtype
            # Any NaN for a NaN: their bits are nobody's promise.
            np.testing.assert_array_equal(got, expected, err_msg=field.name)
            np.testing.assert_array_equal(np.signbit(got)[got == 0], np.signbit(expected)[got == 0])
        elif isinstance(expected, dict):
            for name, values in expected.items():
                np.testing.assert_array_equal(got[name], values, err_msg=name)
        else:
            assert got == expected, field.name


@pytest.mark.parametrize("compute", [np.float32, np.float64])
@pytest.mark.parametrize("kind", FLOATS8)
@pytest.mark.parametrize("case", CASES)
def test_8_bit_floats_have_the_bits_of_float32(
    numba: NumbaBackend, case: str, kind: str, compute: npt.DTypeLike
) -> None:
    """Every formula and layout: what is read as 8 bits is the number that it stands for, and gradients are float32."""
    for seed, layout in enumerate(LAYOUTS):
        job = job_of(case, layout, kind, compute, np.random.default_rng(seed))
        widely = widened(job.input)
        assert widely is not None
        wide = replace(job, input=widely, target=widened(job.target))
        same_bits(numba.run([Launch(job, 0.3)])[0], numba.run([Launch(wide, 0.3)])[0])


@pytest.mark.parametrize("kind", FLOATS8)
def test_every_byte_is_its_number(numba: NumbaBackend, kind: str) -> None:
    """All 256, each alone in its row, so that no other number hides it: infinities and NaN too."""
    values = np.arange(256, dtype=np.uint8)
    x = Array(np.stack([values, np.zeros(256, np.uint8)], 1).reshape(-1), FLOATS8[kind], (256, 2, 1))
    job = Job(rpc="", formula=Formula.LOG_SOFTMAX, layout=Layout(256, 2, 1), compute=np.dtype(np.float64), input=x)
    widely = widened(x)
    assert widely is not None

    found = numba.run([Launch(job, 1.0)])[0].values
    wanted = numba.run([Launch(replace(job, input=widely), 1.0)])[0].values

    assert found is not None
    assert wanted is not None
    assert len(np.unique(found[~np.isnan(found)])) > 120
    np.testing.assert_array_equal(found, wanted)
