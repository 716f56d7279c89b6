"""promtool: Prometheus's own check of its files. Debian has it in the package prometheus."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

# `make .venv/promtool/made` puts it there.
OURS = Path(__file__).parents[2] / ".venv/promtool/usr/bin"


def promtool(*arguments: str) -> str:
    """What it prints. A complaint fails the test; where it is missing, the test is skipped."""
    program = shutil.which("promtool", path=f"{OURS}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        pytest.skip("promtool is not here: `make .venv/promtool/made`, or Debian's package prometheus")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
