"""Compilation: how every numba function of the server is compiled (GIL released, no fastmath) and cached on disk.

numba keys its cache by the file of the function alone, not by what that calls. So the cache lies in a folder named
after a hash of all sources that are compiled, of numba and llvmlite, and of the processor: any change starts afresh.
Caches are pickles: the folder belongs to this user alone (0700). SVML would change bits with an unrelated package.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

os.environ["NUMBA_DISABLE_INTEL_SVML"] = "1"

import llvmlite
import numba
from llvmlite import binding
from numba.core import config

from lossd_server.jobs.kernel_cache import KernelCache

log = logging.getLogger(__name__)
F = TypeVar("F", bound=Callable[..., Any])

PACKAGE = Path(__file__).parents[1]
# They number formulas, faults, dtypes and fields: constants of the compiled code, whose own files do not change.
CONSTANTS = ("jobs/job.py", "tensors/array.py", "wire/codec.py")


def source_hash(package: Path = PACKAGE) -> str:
    """A name for what compiled code depends on. package: the folder of the server's sources."""
    # The processor is this one unless numba is told another, as container images do.
    processor = config.CPU_NAME or binding.get_host_cpu_name()
    features = binding.get_host_cpu_features().flatten() if config.CPU_FEATURES is None else config.CPU_FEATURES
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__} {processor} {features}".encode())
    for source in sorted(package.rglob("*.py")):
        name, text = source.relative_to(package).as_posix(), source.read_bytes()
        if name.startswith("backends/numba/") or name in CONSTANTS or b"lossd_server.jobs.jit import" in text:
            digest.update(name.encode() + text)
    return digest.hexdigest()[:16]


def cache_folder() -> Path | None:
    """A private folder for compiled kernels; None, with a log line, where none can be written.

    `LOSSD_CACHE_DIR` names another parent than `$XDG_CACHE_HOME/lossd` (`~/.cache/lossd`).
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = Path(os.environ.get("LOSSD_CACHE_DIR") or os.path.join(home, "lossd")) / source_hash()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = folder.stat()
        if owner.st_uid != os.geteuid() or owner.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(f"{folder} can be written by others")
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        log.warning("kernel_cache_off reason=%r", str(error))
        return None


CACHE = cache_folder()
if CACHE is not None:
    config.CACHE_DIR = str(CACHE)


def njit(function: F) -> F:
    """An entry point: a compiled function that Python calls."""
    compiled: F = numba.njit(nogil=True, error_model="numpy", boundscheck=False)(function)
    if CACHE is not None:
        with suppress(OSError, RuntimeError):  # no folder after all: compiled in every process
            compiled._cache = KernelCache(function)  # type: ignore[attr-defined]  # as `cache=True` would
    return compiled


def device_function(function: F) -> F:
    """A function that only compiled functions call: neither cached by itself nor wrapped for Python."""
    compiled: F = numba.njit(
        nogil=True, error_model="numpy", boundscheck=False, no_cpython_wrapper=True, no_cfunc_wrapper=True
    )(function)
    return compiled


def inlined(function: F) -> F:
    """A device function that is written out where it is called, before types are known: for those with one caller, and
    for those that take another function.

    A device function is optimised by itself and once more in each of its callers, with all that it calls; this one only
    there. But numba copies it block by block with all its variables, quadratic in its length: where whole tiles were
    inlined, that took 22 s of 60 s of compilation, and 5 s of 46 s since they are device functions. Keep it short.
    """
    compiled: F = numba.njit(
        nogil=True,
        error_model="numpy",
        boundscheck=False,
        inline="always",
        no_cpython_wrapper=True,
        no_cfunc_wrapper=True,
    )(function)
    return compiled
