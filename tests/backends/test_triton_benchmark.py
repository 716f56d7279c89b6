"""The GPU benchmark runs unattended: every part of it, at tiny sizes, under the interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import WAIT_S

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


def test_a_part_that_is_out_of_time() -> None:
    """SIGTERM ends it between two figures, with a sentence, so that what was measured is kept."""
    program = str(ROOT / "benchmarks" / "gpu.py")
    command = [sys.executable, "-W", "ignore", "-u", program, "--dry-run", "--part", "kernels"]
    env = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        first = next(line for line in child.stdout if line.startswith("kernels "))
        child.terminate()
        _, said = child.communicate(timeout=WAIT_S)

    assert "GB/s" in first
    assert child.returncode == 1
    assert said.endswith("kernels: out of time; kept is what was measured so far\n")
