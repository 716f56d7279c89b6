"""Builds the wheel lossd-kernels for this interpreter.

    python tools/kernels_wheel.py FOLDER

For each level of x86-64 that this processor has, a process compiles every kernel for it. lossd[server] and hatchling
must be installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from llvmlite import binding

from lossd_server.jobs.kernel_folders import NEEDS

PROJECT = Path(__file__).parents[1] / "deploy/kernels"
WARM_UP = """
from lossd_server.backends import create
from lossd_server.warmup import warm_up
warm_up(create("cpu", 1), print)
"""


def levels() -> list[str]:
    """Those that this processor can run: compiling runs a kernel once."""
    here = binding.get_host_cpu_features()
    return [level for level, needs in NEEDS.items() if all(here.get(feature, False) for feature in needs)]


def compile_kernels(folder: Path) -> None:
    """Into FOLDER/LEVEL, as `shipped_kernels` looks for them."""
    for level in levels():
        print(f"kernels for {level}", flush=True)
        where = {"LOSSD_CACHE_DIR": str(folder / level), "NUMBA_CPU_NAME": level, "NUMBA_CPU_FEATURES": ""}
        subprocess.run([sys.executable, "-u", "-c", WARM_UP], env=os.environ | where, check=True)


def main() -> None:
    folder = Path(sys.argv[1])
    package = PROJECT / "lossd_kernels"
    for old in package.glob("cp*"):
        shutil.rmtree(old)
    compile_kernels(package / f"cp{sys.version_info.major}{sys.version_info.minor}")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder.resolve())]
    subprocess.run(command, cwd=PROJECT, check=True)


if __name__ == "__main__":
    main()
