"""The cache of compiled kernels, where its files or its folder are not as they should be."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.server.server_process import environment
from tests.waiting import WAIT_S

# A function that is compiled, and told of when it is.
PROGRAM = """
import logging, sys
logging.basicConfig(format="%(message)s")
from lossd_server.jobs import kernel_cache
from lossd_server.jobs.reduction import divided_by_sums, read_only
import numpy as np
kernel_cache.on_miss.append(lambda name: print("compiled", name))
print(divided_by_sums(read_only(np.arange(1.0, 5.0)), 1, 4, 1, np.empty(4)))
"""


def run(folder: Path, program: str = PROGRAM) -> list[str]:
    """What the program prints, with that folder as the cache."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment() | {"LOSSD_CACHE_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1] + done.stderr.split("\n")[:-1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A cache with that function in it."""
    assert run(tmp_path) == ["compiled divided_by_sums", "(-1, -1)"]
    assert run(tmp_path) == ["(-1, -1)"]
    return tmp_path


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    """One bit, in the middle: of machine code it would still be a pickle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", [cut, flip, empty, remove])
def test_a_damaged_file_is_compiled_anew(folder: Path, suffix: str, damage: Callable[[Path], None]) -> None:
    """And written again: the start after it finds everything."""
    (path,) = folder.rglob(f"*.{suffix}")
    damage(path)

    assert run(folder) == ["compiled divided_by_sums", "(-1, -1)"]
    assert run(folder) == ["(-1, -1)"]


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """What cannot be kept is compiled in every process; a line of the log says so."""
    program = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n{PROGRAM}"

    lines = run(tmp_path, f"import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n{program}")

    assert lines[:2] == ["compiled divided_by_sums", "(-1, -1)"]
    assert "kernel cache not written" in lines


def test_a_folder_where_a_file_should_be(folder: Path) -> None:
    """Whatever lies in the file's place."""
    (path,) = folder.rglob("*.nbc")
    path.unlink()
    path.mkdir()

    assert run(folder)[:2] == ["compiled divided_by_sums", "(-1, -1)"]
