"""Why the Triton backend cannot be used, in a sentence."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lossd.extras import install_hint
from lossd_server.backends.triton import missing


@pytest.mark.parametrize("package", ["torch", "triton"])
def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Without torch, or without Triton, the sentence says which and how to get it."""
    monkeypatch.setitem(sys.modules, package, None)

    assert missing() == f"the package {package} is not installed ({install_hint('gpu')})"


def test_asking_imports_no_torch_where_there_is_no_driver() -> None:
    """`missing` answers without torch's seconds of import when the CUDA driver is not there."""
    program = """
import ctypes, sys
def absent(name): raise OSError(name)
import lossd_server.backends.triton as backend
backend.CDLL = absent
print(backend.missing(), "|", "torch" in sys.modules, "triton" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert "no CUDA device" in done.stdout
    assert done.stdout.endswith("| False False\n")


def test_a_cuda_device_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """`create("cuda")` says why it cannot be used."""
    from lossd_server.backends import create

    monkeypatch.setitem(sys.modules, "torch", None)

    with pytest.raises(RuntimeError, match="device cuda cannot be used: the package torch is not installed"):
        create("cuda")
