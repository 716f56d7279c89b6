"""Compiles Triton's launcher into $TRITON_CACHE_DIR, so that the CUDA image needs no C compiler.

Triton builds this one C file against the driver's libcuda.so.1 when it first meets a GPU. An image is built where there
is no driver: a library with the same names stands in for it, and the driver's own is found when the launcher is loaded.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import tempfile
from pathlib import Path

from triton.backends.nvidia import driver

names = set(re.findall(r"\bcu[A-Z]\w*(?=\()", (Path(driver.__file__).parent / "driver.c").read_text()))
with tempfile.TemporaryDirectory() as folder:
    library = Path(folder) / "libcuda.so.1"
    source = library.with_suffix(".c")
    source.write_text("".join(f"void {name}(void) {{}}\n" for name in sorted(names)))
    subprocess.run(["gcc", "-shared", "-Wl,-soname,libcuda.so.1", "-o", library, source], check=True)
    ctypes.CDLL(str(library))  # what is loaded already is not searched for again
    os.environ["TRITON_LIBCUDA_PATH"] = folder
    driver.CudaUtils()
