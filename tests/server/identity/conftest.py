"""Certificates of an authority of the tests', and a file of tokens."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.credentials import Pki, TokenFile


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    made = Pki(tmp_path / "pki")
    made.renew()
    return made


@pytest.fixture
def another_pki(tmp_path: Path) -> Pki:
    """Of an authority that nobody trusts."""
    made = Pki(tmp_path / "another")
    made.renew()
    return made


@pytest.fixture
def tokens(tmp_path: Path) -> TokenFile:
    """One for a caller named trainer."""
    return TokenFile.made(tmp_path / "tokens")


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Inside, this process can open nothing."""
    next_one = os.open("/dev/null", os.O_RDONLY)
    os.close(next_one)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_one, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
