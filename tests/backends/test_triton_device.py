"""A CUDA device, as torch tells of it, pretended: which one a process uses and what it calls it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lossd_server.backends import triton
from lossd_server.backends.triton.device import Cuda
from lossd_server.config.gpus import VISIBLE


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the devices that torch is asked for."""
    numbers: list[int] = []

    def properties(number: int) -> Any:
        numbers.append(number)
        return SimpleNamespace(name="NVIDIA H200", total_memory=139 << 30)

    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, number: numbers.append(number))
    monkeypatch.setattr(torch.cuda, "Stream", numbers.append)
    return numbers


@pytest.mark.parametrize(
    "visible, name",
    [
        (None, "NVIDIA H200, 139 GiB"),
        ("2", "NVIDIA H200, 139 GiB, GPU 2"),
        ("2,0", "NVIDIA H200, 139 GiB, GPU 2"),
        ("GPU-8932f937", "NVIDIA H200, 139 GiB, GPU-8932f937"),
    ],
)
def test_a_process_has_the_first_that_it_sees(
    asked: list[int], monkeypatch: pytest.MonkeyPatch, visible: str | None, name: str
) -> None:
    """Whatever CUDA_VISIBLE_DEVICES shows it; its name there is told."""
    monkeypatch.delenv(VISIBLE, raising=False)
    if visible is not None:
        monkeypatch.setenv(VISIBLE, visible)

    assert Cuda().description == name
    assert set(asked) == {0}


@pytest.mark.parametrize("visible, end", [(None, "that torch can use"), ("7", f"that torch can use, with {VISIBLE}=7")])
def test_a_device_that_is_not_seen(monkeypatch: pytest.MonkeyPatch, visible: str | None, end: str) -> None:
    """The sentence says which was asked for."""
    monkeypatch.setattr(triton, "CDLL", lambda name: None)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv(VISIBLE, raising=False)
    if visible is not None:
        monkeypatch.setenv(VISIBLE, visible)

    assert triton.missing() == f"there is no CUDA device {end}"
