"""The kernels compile for a real GPU, without one: PTX and machine code for sm_90, in a process without interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = r"""
import re

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from lossd_server.backends.triton.configuration import KERNELS, Configuration

for kernel in KERNELS:
    for compute in ("float32", "float64"):
        variant = Configuration(kernel, compute, 1, 256, 8)  # small: quick to compile
        constants = variant.constants
        signature = {"words": "*i64", "out": "*i64", "item": "i64", "work": "i64"}
        signature |= dict.fromkeys(constants, "constexpr")
        compiled = triton.compile(
            ASTSource(KERNELS[kernel], signature, constants), GPUTarget("cuda", 90, 32), {"num_warps": variant.warps}
        )
        ptx = compiled.asm["ptx"]
        found = {pattern: bool(re.search(pattern, ptx)) for pattern in (r"\batom\.", r"\bred\.", r"\bex2\.")}
        print(kernel, compute, len(compiled.asm["cubin"]) > 0, *found.values())
"""


def test_kernels_compile_for_a_gpu(tmp_path: Path) -> None:
    """Every kernel gives machine code in both dtypes, with no atomics and without the hardware's approximate 2^x."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[:2] for line in lines] == [
        [kernel, compute]
        for kernel in ("softmax", "kinds", "elementwise", "weights")
        for compute in ("float32", "float64")
    ]
    assert {tuple(line[2:]) for line in lines} == {("True", "False", "False", "False")}
