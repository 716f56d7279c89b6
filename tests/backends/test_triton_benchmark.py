"""The GPU benchmark runs unattended: every part of it, at tiny sizes, under the interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("part", ["correctness", "kernels", "peers", "elementwise", "requests"])
def test_a_dry_run_of_each_part(part: str) -> None:
    """It ends with status 0 and figures, save `ragged`, which is slow there and made of the same pieces."""
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            ROOT / "benchmarks" / "gpu.py",
            "--dry-run",
            "--part",
            part,
            "--classes",
            "10",
        ],
        env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    assert part.removesuffix("ness") in done.stdout
