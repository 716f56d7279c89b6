"""Private folders: who holds one, and where they are made."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from lossd_server.processes.private_folder import PrivateFolder, remove_dead


def test_a_folder_that_is_held_is_not_taken_for_a_dead_one() -> None:
    """Only a lock that nobody holds tells that a server has ended."""
    folder = PrivateFolder()
    remove_dead()
    held = Path(folder.path).is_dir()
    folder.remove()

    assert held
    assert not Path(folder.path).exists()


def test_a_long_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Unix socket's path must be short: where the temporary folder's is long, another one serves."""
    long = tmp_path / ("long" * 30)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", "")
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    folder = PrivateFolder()
    path = folder.path
    folder.remove()

    assert len(path) < 100
