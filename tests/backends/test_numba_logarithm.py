"""Logarithms of vectors: within an ulp of the truth, alone of a lane's own number, and the same bits everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pytest
from llvmlite import binding

from lossd_server.backends.numba.simd.logarithm import log
from lossd_server.backends.numba.simd.memory import load, store
from tests.oracle.exact import mp

DTYPES = ["float32", "float64"]


@numba.njit(error_model="numpy")  # type: ignore[untyped-decorator]  # numba has no types
def logarithms(at: int, to: int, vectors: int, like: Any) -> None:
    for j in range(vectors):
        store(to + 128 * j, log(load(at + 128 * j, like)))


def computed(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """ln x; whole vectors."""
    assert x.nbytes % 128 == 0
    out = np.empty_like(x)
    logarithms(x.ctypes.data, out.ctypes.data, x.nbytes // 128, x.dtype.type(0))
    return out


def numbers(dtype: str) -> npt.NDArray[Any]:
    """Around 1, over an octave and its borders, and of every exponent."""
    info = np.finfo(dtype)
    near = 1 + np.linspace(-0.06, 0.06, 500)
    octave = np.linspace(0.7, 1.45, 900)
    steps = 1 + np.arange(-20, 20) * float(info.eps)
    exponents = np.ldexp(np.linspace(1, 2, 600), np.linspace(info.minexp, info.maxexp - 2, 600).astype(int))
    x = np.concatenate([near, octave, steps, exponents, [float(info.tiny), float(info.max)]]).astype(dtype)
    return x[: x.size // 32 * 32]


def every_answer() -> bytes:
    return b"".join(computed(numbers(dtype)).tobytes() for dtype in DTYPES)


@pytest.mark.parametrize("dtype", DTYPES)
def test_logarithms_are_within_an_ulp(dtype: str) -> None:
    """Of the answer, near 1 too, where it is small. The largest here: 0.9986 and 0.943."""
    x = numbers(dtype)
    for value, number in zip(computed(x), x, strict=True):
        truth = mp.log(mp.mpf(float(number)))
        assert abs(mp.mpf(float(value)) - truth) <= mp.mpf(float(np.spacing(abs(value)))), number


@pytest.mark.parametrize("dtype", DTYPES)
def test_logarithms_of_what_is_not_normal(dtype: str) -> None:
    """−∞ of either 0, NaN below and of NaN, ∞ of ∞, and an ulp for subnormal numbers."""
    x = np.ones(32, dtype)
    x[:7] = [0.0, -0.0, -1.0, -np.inf, np.nan, np.inf, np.finfo(dtype).smallest_subnormal]
    found = computed(x)

    assert found[:2].tolist() == [-np.inf, -np.inf]
    assert np.isnan(found[2:5]).all()
    assert found[5] == np.inf
    assert found[6] == pytest.approx(float(mp.log(mp.mpf(float(x[6])))), rel=2 * float(np.finfo(dtype).eps))
    assert (found[7:] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("neighbour", [np.nan, -1.0, 0.0, np.inf, 1e-45])
def test_a_neighbour_changes_no_bit(dtype: str, neighbour: float) -> None:
    """Where a number is not normal its vector goes another way: the other lanes have the bits that they have alone."""
    x = numbers(dtype)
    beside = x.copy()
    beside[:: 128 // x.itemsize] = neighbour
    alone, found = computed(x), computed(beside)
    same = np.arange(x.size) % (128 // x.itemsize) != 0

    assert alone[same].tobytes() == found[same].tobytes()


@pytest.mark.parametrize("level", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
def test_logarithms_have_the_same_bits_on_every_processor(level: str) -> None:
    """Looked up by choices, in a register of AVX2 or in one of AVX-512: the same bits."""
    needs = {"x86-64-v2": "sse4.2", "x86-64-v3": "avx2", "x86-64-v4": "avx512f"}[level]
    if not binding.get_host_cpu_features().get(needs, False):
        pytest.skip(f"this processor has no {needs}")
    program = (
        "import sys; from tests.backends.test_numba_logarithm import every_answer as e; sys.stdout.buffer.write(e())"
    )
    environment = os.environ | {"NUMBA_CPU_NAME": level, "NUMBA_CPU_FEATURES": ""}
    answer = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)

    assert answer.stdout == every_answer()
