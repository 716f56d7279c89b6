"""Jobs made by hand for the Triton backend, and how close their results must be."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from lossd.v1 import tensor_pb2 as pb
from lossd_server.backends import Backend
from lossd_server.jobs.job import Computed, Formula, Job, Kind, Launch, Layout
from lossd_server.tensors.array import STORAGE, Array, View
from tests.backends.expected import DTYPES

WIRE = {np.dtype(np.float32): pb.DATA_TYPE_FLOAT32, np.dtype(np.float64): pb.DATA_TYPE_FLOAT64}
# The largest error over the largest entry: 4 ulp of float32, 8 of float64, half an ulp and a little of 16 bits.
ERROR = {np.float64: 1.8e-15, np.float32: 4.8e-7, np.float16: 5e-4, ml_dtypes.bfloat16: 4e-3}


def array(values: npt.ArrayLike, dtype: int = pb.DATA_TYPE_FLOAT32) -> Array:
    """`values` rounded to `dtype`, as an operand."""
    rounded = np.asarray(values).astype(DTYPES[dtype])
    return Array(rounded.reshape(-1).view(STORAGE[dtype]), dtype, rounded.shape)


def indices(values: npt.NDArray[Any]) -> Array:
    """Class indices."""
    return Array(values.reshape(-1).astype(np.int64), pb.DATA_TYPE_INT64, values.shape)


def view(values: npt.NDArray[Any]) -> View:
    """A view that broadcasts nothing."""
    strides = tuple(stride // values.itemsize for stride in values.strides)
    return View(values.reshape(-1), WIRE[values.dtype], values.shape, strides)


def rows_job(formula: Formula, x: Array, **options: Any) -> Job:
    """A Job on rows (outer, C, inner), with the input's gradient."""
    outer, classes, inner = x.shape
    wide = x.dtype == pb.DATA_TYPE_FLOAT64
    defaults: dict[str, Any] = {"compute": np.dtype(np.float64 if wide else np.float32), "input_gradient": True}
    return Job(rpc="", formula=formula, layout=Layout(outer, classes, inner), input=x, **defaults | options)


def some(formula: Formula, shape: tuple[int, int, int], dtype: Any = np.float32, seed: int = 0, **options: Any) -> Job:
    """A Job of ordinary values, with every gradient and by-product that it can have."""
    rng = np.random.default_rng(seed)
    code = WIRE[np.dtype(dtype)]
    x = rng.random(shape)
    defaults: dict[str, Any] = {}
    if "INDEX" in formula.name or formula is Formula.NLL:
        defaults["target"] = indices(rng.integers(0, shape[1], (shape[0], shape[2])))
    elif "DISTRIBUTION" in formula.name or formula.name.startswith(("KL", "BCE")):
        defaults |= {"target": array(rng.random(shape), code), "target_gradient": True}
    if "DISTRIBUTION" in formula.name:
        defaults["weight_gradient"] = True
    if formula in (Formula.CROSS_ENTROPY_INDEX, Formula.CROSS_ENTROPY_DISTRIBUTION):
        defaults["outputs"] = frozenset({"lse", "entropy", "argmax"})
    if "KINDS" in formula.name or formula.name.startswith("KL"):
        defaults["input_kind"] = Kind.PROBABILITIES
    if formula is Formula.KL_ROWS:
        defaults |= {"input_kind": Kind.COUNTS, "target_kind": Kind.LOGITS}
    return rows_job(formula, array(x, code), **defaults | options)


def alone(backend: Backend, job: Job, scale: float = 1.0) -> Computed:
    return backend.run([Launch(job, scale)])[0]


def bits(computed: Computed) -> list[bytes | None]:
    """Everything that a job gave, byte for byte."""
    arrays = (
        computed.losses,
        computed.chunk_sums,
        computed.values,
        computed.input_gradient,
        computed.target_gradient,
        computed.weight_gradient,
        *(computed.outputs[name] for name in sorted(computed.outputs)),
    )
    return [None if a is None else a.tobytes() for a in arrays]


def assert_close(actual: npt.NDArray[Any] | None, expected: Any, dtype: Any = np.float32, ulps: float = 1.0) -> None:
    """Flat storage of `dtype` against an array of any shape. ulps: times ERROR."""
    assert actual is not None
    assert expected is not None
    wanted = np.asarray(expected, np.float64)
    error = np.abs(actual.view(dtype).astype(np.float64) - wanted.reshape(-1)).max()
    assert error <= ulps * ERROR[dtype] * np.abs(wanted).max()


def assert_relative(actual: npt.NDArray[Any] | None, expected: npt.ArrayLike | None, rtol: float) -> None:
    """Entry by entry, against an array of any shape."""
    assert actual is not None
    assert expected is not None
    np.testing.assert_allclose(actual, np.reshape(np.asarray(expected), actual.shape), rtol=rtol)
