"""Kernel folders: where compiled kernels are kept, and where those of the package lossd-kernels lie.

numba keys its cache by the file of the function alone, not by what that calls. So a cache lies in a folder named after
a hash of all sources that are compiled, of numba and llvmlite, and of the processor: any change starts afresh. Caches
are pickles: a folder belongs to this user alone (0700), or to the packages that this process imports.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import llvmlite
import numba
from llvmlite import binding
from numba.core import config

log = logging.getLogger(__name__)

PACKAGE = Path(__file__).parents[1]
# They number formulas, faults, dtypes and fields: constants of the compiled code, whose own files do not change.
CONSTANTS = ("jobs/job.py", "tensors/array.py", "wire/codec.py")
# Levels of x86-64 that kernels are shipped for, best first, and those of their extensions that anything here asks for.
LEVELS = {"x86-64-v4": ("avx2", "f16c", "avx512f"), "x86-64-v3": ("avx2", "f16c")}
# What a processor must have for a level: the System V ABI's list, as LLVM names it.
V3 = ("avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe")
NEEDS = {"x86-64-v4": (*V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"), "x86-64-v3": V3}  # best first


def source_hash(package: Path = PACKAGE, level: str | None = None) -> str:
    """A name for what compiled code depends on. package: the folder of the server's sources. level: what it is compiled
    for, if not for what numba is told, or else this processor.
    """
    if level is not None:
        target = f"{level} "
    else:
        features = config.CPU_FEATURES
        features = binding.get_host_cpu_features().flatten() if features is None else features
        target = f"{config.CPU_NAME or binding.get_host_cpu_name()} {features}"
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__} {target}".encode())
    for source in sorted(package.rglob("*.py")):
        name, text = source.relative_to(package).as_posix(), source.read_bytes()
        if name.startswith("backends/numba/") or name in CONSTANTS or b"lossd_server.jobs.jit import" in text:
            digest.update(name.encode() + text)
    return digest.hexdigest()[:16]


def shipped_kernels() -> tuple[str, Path] | None:
    """The best level that this processor has and the package lossd-kernels has kernels for, and where they lie; None
    where there are none of this version, or numba is told another processor.
    """
    spec = find_spec("lossd_kernels")
    if (
        spec is None
        or not spec.submodule_search_locations
        or config.CPU_NAME not in (None, *NEEDS)
        or config.CPU_FEATURES
    ):
        return None
    here = binding.get_host_cpu_features()
    versions = Path(spec.submodule_search_locations[0]) / f"cp{sys.version_info.major}{sys.version_info.minor}"
    for level, needs in NEEDS.items():
        folder = versions / level / source_hash(level=level)
        told = config.CPU_NAME in (None, level)
        if told and all(here.get(feature, False) for feature in needs) and folder.is_dir():
            return level, folder
    log.warning("kernels of another version", extra={"folder": str(versions)})
    return None


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
