"""Operands at any address: a message puts its elements where its header ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from lossd.request import build as requests
from lossd_server import losses
from lossd_server.backends.numba import NumbaBackend
from lossd_server.engine.evaluate import evaluate
from lossd_server.jobs import reduction
from lossd_server.jobs.job import Answer
from lossd_server.tensors import request_fields
from lossd_server.tensors.request_fields import Fields, WireTensor
from lossd_server.wire import codec

RNG = np.random.default_rng(3)
FLOATS: dict[str, Any] = {
    "float8": ml_dtypes.float8_e5m2,
    "bfloat16": ml_dtypes.bfloat16,
    "float16": np.float16,
    "float32": np.float32,
    "float64": np.float64,
}
INTEGERS: dict[str, Any] = {"int8": np.int8, "int16": np.int16, "int32": np.int32, "int64": np.int64}


@pytest.fixture(scope="module")
def numba() -> Iterator[NumbaBackend]:
    backend = NumbaBackend(1)
    reduction.warm_up()
    yield backend
    backend.close()


def compiled() -> int:
    """How often the sums beside the kernels have been compiled."""
    return sum(len(one.signatures) for one in vars(reduction).values() if hasattr(one, "signatures"))


def shares(*shape: int) -> npt.NDArray[Any]:
    """Numbers that are probabilities, logits and counts."""
    return RNG.integers(1, 9, shape) / 8


def classes(rows: int, bound: int) -> npt.NDArray[Any]:
    return RNG.integers(0, bound, rows)


# (method, float tensors, targets of an integer dtype, options). Sizes: few classes, where lanes are rows; a row of
# several vectors and a tail; elements in front of a class dimension.
CASES: dict[str, tuple[str, list[npt.NDArray[Any]], npt.NDArray[Any] | None, dict[str, Any]]] = {
    "few classes": ("cross_entropy", [shares(37, 10)], classes(37, 10), {"grad": True}),
    "rows": ("cross_entropy", [shares(5, 333)], classes(5, 333), {"grad": True, "weight": shares(333)}),
    "row weights": ("cross_entropy", [shares(5, 333)], classes(5, 333), {"row_weight": shares(5)}),
    "smoothing": ("cross_entropy", [shares(5, 333)], classes(5, 333), {"label_smoothing": 0.1, "outputs": ["lse"]}),
    "columns": ("cross_entropy", [shares(3, 17, 29)], RNG.integers(0, 17, (3, 29)), {"grad": True}),
    "kinds": ("cross_entropy", [shares(5, 65)], classes(5, 65), {"kind": "probabilities"}),
    "distribution": ("cross_entropy", [shares(5, 333), shares(5, 333)], None, {"grad": ["input", "target", "weight"]}),
    "counts": ("cross_entropy", [shares(5, 65), shares(5, 65)], None, {"target_kind": "counts"}),
    "nll": ("nll", [shares(5, 65)], classes(5, 65), {"grad": True}),
    "entropy": ("entropy", [shares(5, 65)], None, {"grad": True}),
    "entropy of logits": ("entropy", [shares(5, 65)], None, {"kind": "logits", "grad_output": np.float64(2.0)}),
    "bce": ("bce", [shares(5, 65), shares(5, 65)], None, {"weight": shares(65), "grad": ["input", "target"]}),
    "bce_with_logits": (
        "bce_with_logits",
        [shares(5, 65), shares(5, 65)],
        None,
        {"pos_weight": shares(65), "reduction": "none", "grad_output": shares(5, 65), "grad": True},
    ),
    "kl": ("kl_divergence", [shares(5, 65), shares(5, 65)], None, {"grad": ["input", "target"]}),
    "kl of rows": ("kl_divergence", [shares(5, 65), shares(5, 65)], None, {"kind": "logits", "target_kind": "counts"}),
    "self_information": ("self_information", [shares(5, 65)], None, {"base": 2.0, "grad": True}),
    "softmax": ("softmax", [shares(5, 333)], None, {"grad": True, "grad_output": shares(5, 333)}),
    "sigmoid": ("sigmoid", [shares(5, 65)], None, {"grad": True}),
}


def fields(case: str, dtype: Any, integers: Any) -> tuple[str, Fields]:
    """The case's request in these dtypes; its options' tensors are of the float dtype too."""
    method, tensors, target, options = CASES[case]
    narrow = {name: value.astype(dtype) if isinstance(value, np.ndarray) else value for name, value in options.items()}
    given = [tensor.astype(dtype) for tensor in tensors] + ([] if target is None else [target.astype(integers)])
    call = requests.build(method, *given, **narrow)
    return call.rpc, codec.decode_fields(call.rpc, call.body())


def at(offset: int, given: Fields) -> Fields:
    """The same, with every tensor's elements `offset` bytes behind where 64 divides the address."""
    return {
        name: replace(value, data=shifted(bytes(value.data), offset)) if isinstance(value, WireTensor) else value
        for name, value in given.items()
    }


def shifted(data: bytes, offset: int) -> memoryview:
    whole = np.zeros(len(data) + 128, np.uint8)
    start = -whole.ctypes.data % 64 + offset
    whole[start : start + len(data)] = np.frombuffer(data, np.uint8)
    whole.flags.writeable = False
    return whole[start : start + len(data)].data


def answered(backend: NumbaBackend, rpc: str, given: Fields) -> bytes:
    (answer,) = evaluate(backend, [losses.check(rpc, given)])
    assert isinstance(answer, Answer), answer
    return codec.encode(answer, 0, 0, 1, 0)


@pytest.mark.parametrize("offset", [1, 4])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", CASES)
def test_an_operand_may_lie_at_any_address(numba: NumbaBackend, case: str, dtype: str, offset: int) -> None:
    """The bits of an answer do not depend on where the operands lie; nothing faults, and nothing is compiled anew."""
    rpc, given = fields(case, FLOATS[dtype], np.int64)
    expected, before = answered(numba, rpc, at(0, given)), compiled()

    assert answered(numba, rpc, at(offset, given)) == expected
    assert compiled() == before


@pytest.mark.parametrize("offset", [1, 4])
@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("case", ["few classes", "rows", "nll"])
def test_indices_may_lie_at_any_address(numba: NumbaBackend, case: str, dtype: str, offset: int) -> None:
    """Class indices of every integer dtype."""
    bound = 10 if case == "few classes" else 65
    rpc, given = fields(case, np.float32, np.int64)
    target: WireTensor = given["target"]
    narrow = (np.frombuffer(target.data, np.int64) % bound).astype(INTEGERS[dtype])
    wire = {"int8": 3, "int16": 4, "int32": 5, "int64": 6}[dtype]
    given["target"] = request_fields.WireTensor(wire, target.shape, "data", narrow.tobytes())

    assert answered(numba, rpc, at(offset, given)) == answered(numba, rpc, at(0, given))
