"""Compilation: how every numba function of the server is compiled (GIL released, no fastmath) and cached on disk.

SVML would change bits with an unrelated package.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

os.environ["NUMBA_DISABLE_INTEL_SVML"] = "1"

import numba
from llvmlite import binding
from numba.core import config

from lossd_server.jobs.kernel_cache import KernelCache
from lossd_server.jobs.kernel_folders import LEVELS, cache_folder, shipped_kernels

F = TypeVar("F", bound=Callable[..., Any])
# Compiled before, by the package lossd-kernels: for a level of x86-64, and not for this very processor. numba is told
# by variables: it reads them again when it compiles, and this server's other processes have them too.
SHIPPED = None
if (found := shipped_kernels()) is not None:
    os.environ["NUMBA_CPU_NAME"], SHIPPED = found
    os.environ["NUMBA_CPU_FEATURES"] = ""
    config.reload_config()
CACHE = cache_folder()


def target_has(feature: str) -> bool:
    """Whether what is compiled for has an extension of x86-64: this processor, or the level that numba is told."""
    if config.CPU_FEATURES is None:
        return bool(binding.get_host_cpu_features().get(feature, False))
    if f"+{feature}" in config.CPU_FEATURES:
        return True
    return feature in LEVELS.get(config.CPU_NAME or "", ())


def njit(function: F) -> F:
    """An entry point: a compiled function that Python calls."""
    compiled: F = numba.njit(nogil=True, error_model="numpy", boundscheck=False)(function)
    if CACHE is not None or SHIPPED is not None:
        compiled._cache = KernelCache(function, CACHE, SHIPPED)  # type: ignore[attr-defined]  # as `cache=True` would
    return compiled


def device_function(function: F) -> F:
    """A function that only compiled functions call: neither cached by itself nor wrapped for Python."""
    compiled: F = numba.njit(
        nogil=True, error_model="numpy", boundscheck=False, no_cpython_wrapper=True, no_cfunc_wrapper=True
    )(function)
    return compiled


def llvm_inlined(function: F) -> F:
    """A device function that LLVM writes out in its callers, however long it is: for what a loop does with a vector. A
    call passes vectors through memory, which took longer than a logarithm.
    """
    compiled: F = numba.njit(
        nogil=True,
        error_model="numpy",
        boundscheck=False,
        forceinline=True,
        no_cpython_wrapper=True,
        no_cfunc_wrapper=True,
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
