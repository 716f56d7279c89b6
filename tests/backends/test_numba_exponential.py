"""Exponentials of a row: within an ulp of the truth, and the same bits whatever instructions the processor has."""

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

from lossd_server.backends.numba.simd.exponential import exp_scale, falling_exp, scaled_exp
from lossd_server.backends.numba.simd.memory import load, store
from lossd_server.backends.numba.simd.operations import splat
from tests.oracle.exact import mp

REFS = [0.0, 0.7, -3.0, 100.0, -1000.0, 65535.0, 65537.0, -1e6, 1e30, -3e38]
LANES = 32
DEEPEST = {"float32": -87.0, "float64": -708.0}


@numba.njit(error_model="numpy")  # type: ignore[untyped-decorator]  # numba has no types
def exponentials(at: int, to: int, vectors: int, ref: Any) -> None:
    """exp(x − ref)·unit, then the unit."""
    by = exp_scale(splat(ref))
    for j in range(vectors):
        store(to + 128 * j, scaled_exp(load(at + 128 * j, ref), by))
    store(to + 128 * vectors, by.unit)


@numba.njit(error_model="numpy")  # type: ignore[untyped-decorator]  # numba has no types
def falling(at: int, to: int, vectors: int, like: Any) -> None:
    for j in range(vectors):
        store(to + 128 * j, falling_exp(load(at + 128 * j, like)))


def row(ref: float, dtype: str) -> npt.NDArray[Any]:
    """Numbers from `ref` down to where exponentials end, then −∞, NaN and huge ones."""
    gaps = np.concatenate([np.linspace(0, 1, 100), np.linspace(1, -DEEPEST[dtype], 150)])
    special = [-np.inf, np.nan, -3.3e38, ref - 1e5, ref - 2e6 if ref > -1e9 else -3.4e38, ref]
    return np.concatenate([ref - gaps, special]).astype(dtype)


def computed(ref: float, dtype: str) -> npt.NDArray[Any]:
    x = row(ref, dtype)
    lanes = 128 // x.itemsize
    out = np.empty(x.size + lanes, dtype)
    assert x.size % lanes == 0
    exponentials(x.ctypes.data, out.ctypes.data, x.size // lanes, x.dtype.type(ref))
    return out[: x.size + 1]


def every_answer() -> bytes:
    """All of them, of both types."""
    answers = [computed(ref, dtype) for dtype in DEEPEST for ref in REFS]
    for dtype in DEEPEST:
        x = row(0.0, dtype)
        out = np.empty_like(x)
        falling(x.ctypes.data, out.ctypes.data, x.nbytes // 128, x.dtype.type(0))
        answers.append(out)
    return b"".join(np.where(np.isnan(a), np.nan, a).astype(a.dtype).tobytes() for a in answers)


@pytest.mark.parametrize("dtype", DEEPEST)
@pytest.mark.parametrize("ref", REFS)
def test_exponentials_are_within_an_ulp(dtype: str, ref: float) -> None:
    """exp(x − ref), by what stands for 1, is off by less than 2 ulp at any offset: of the two, each by less than 1."""
    out, x = computed(ref, dtype), row(ref, dtype)
    unit, top = out[-1], mp.mpf(float(x[-1]))
    info = np.finfo(dtype)

    for value, number in zip(out[:-6], x[:-5], strict=False):
        if np.isfinite(number):
            truth = mp.exp(mp.mpf(float(number)) - top)
            if truth > mp.mpf(float(info.tiny)) * 2:
                assert abs(mp.mpf(float(value)) / mp.mpf(float(unit)) / truth - 1) < 2 * mp.mpf(float(info.eps))
    assert 0.95 < unit < 1.05


@pytest.mark.parametrize("dtype", DEEPEST)
@pytest.mark.parametrize("ref", REFS)
def test_exponentials_of_what_is_no_number(dtype: str, ref: float) -> None:
    """−∞ and what is far below give exactly 0, NaN gives NaN, the maximum exactly what stands for 1."""
    *_, infinite, nan, huge, far, farther, top, unit = computed(ref, dtype)

    assert infinite == 0
    assert np.isnan(nan)
    if ref > -3e38:
        assert huge == 0
    if abs(ref) < 1e9:
        assert far == farther == 0
    assert top == unit


@pytest.mark.parametrize("level", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
def test_exponentials_have_the_same_bits_on_every_processor(level: str) -> None:
    """Looked up by choices, in a register of AVX2 or in one of AVX-512: the same bits."""
    needs = {"x86-64-v2": "sse4.2", "x86-64-v3": "avx2", "x86-64-v4": "avx512f"}[level]
    if not binding.get_host_cpu_features().get(needs, False):
        pytest.skip(f"this processor has no {needs}")
    program = (
        "import sys; from tests.backends.test_numba_exponential import every_answer as e; sys.stdout.buffer.write(e())"
    )
    environment = os.environ | {"NUMBA_CPU_NAME": level, "NUMBA_CPU_FEATURES": ""}
    answer = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)

    assert answer.stdout == every_answer()
