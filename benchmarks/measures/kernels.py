"""The figures of kernels.py: the CPU backend beside torch eager, in one process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from processes import BENCHMARKS, environment

LIMIT_S = 600.0


def measure(folder: Path, count: int, quick: bool) -> dict[str, Any]:
    file = folder / "kernels.json"
    command = [sys.executable, str(BENCHMARKS / "kernels.py"), "--rounds", str(count), "--json", str(file)]
    command += ["--scale", "0.05"] if quick else []
    command += ["--compile"] if shutil.which("c++") and not quick else []
    subprocess.run(command, check=True, env=environment(), timeout=LIMIT_S, stdout=sys.stderr)
    found: dict[str, Any] = json.loads(file.read_text())
    return found
