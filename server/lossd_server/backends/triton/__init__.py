"""The GPU backend: Triton kernels over ragged batches. torch manages memory and streams, imported on first use."""

from __future__ import annotations

import os
from ctypes import CDLL
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from lossd.extras import install_hint
from lossd_server.config import gpus

if TYPE_CHECKING:
    from lossd_server.backends.triton.backend import TritonBackend as TritonBackend

__all__ = ["TritonBackend", "missing"]


def missing() -> str | None:
    """A sentence that says why this backend cannot be used here, or None.

    torch is imported last: only where it is installed and the CUDA driver can be loaded.
    """
    for package in ("torch", "triton"):
        if find_spec(package) is None:
            return f"the package {package} is not installed ({install_hint('gpu')})"
    try:
        CDLL(gpus.DRIVER)
    except OSError:
        return f"there is no CUDA device: the driver library {gpus.DRIVER} cannot be loaded"
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} was built without CUDA"
    if not torch.cuda.is_available():
        chosen = os.environ.get(gpus.VISIBLE)
        among = "" if chosen is None else f", with {gpus.VISIBLE}={chosen}"
        return f"there is no CUDA device that torch can use{among}"
    return None


def __getattr__(name: str) -> Any:
    """Imports torch and Triton only when the backend itself is asked for."""
    if name == "TritonBackend":
        from lossd_server.backends.triton.backend import TritonBackend

        return TritonBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
