"""The cache of compiled kernels, where its files or its folder are not as they should be."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from llvmlite import binding

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


def run(folder: Path, program: str = PROGRAM, **variables: str) -> list[str]:
    """What the program prints, with that folder as the cache."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment() | {"LOSSD_CACHE_DIR": str(folder)} | variables,
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


def test_a_folder_that_others_can_write_is_not_used(folder: Path) -> None:
    """What lies there is machine code and pickles: nothing of it is read, and a line of the log says so."""
    (inside,) = (path for path in folder.iterdir() if path.is_dir())
    inside.chmod(0o777)

    said = run(folder)

    assert said[0] == "(-1, -1)"
    assert any("kernel_cache_off" in line and "can be written by others" in line for line in said)


@pytest.fixture
def shipped(tmp_path: Path) -> dict[str, str]:
    """The variable by which a package lossd-kernels is found, with that function for x86-64-v3."""
    if not binding.get_host_cpu_features().get("avx2", False):
        pytest.skip("this processor has no AVX2")
    package = tmp_path / "site/lossd_kernels"
    level = package / f"cp{sys.version_info.major}{sys.version_info.minor}/x86-64-v3"
    level.mkdir(parents=True)
    (package / "__init__.py").touch()
    assert run(level, NUMBA_CPU_NAME="x86-64-v3", NUMBA_CPU_FEATURES="") == ["compiled divided_by_sums", "(-1, -1)"]
    paths = [str(tmp_path / "site"), environment().get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def test_shipped_kernels_are_read_first(shipped: dict[str, str], tmp_path: Path) -> None:
    """Nothing is compiled, and nothing written; where numba is told another processor they are left alone."""
    assert run(tmp_path / "own", **shipped) == ["(-1, -1)"]
    assert not list((tmp_path / "own").rglob("*.nb?"))
    assert run(tmp_path / "own", **shipped, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="") == [
        "compiled divided_by_sums",
        "(-1, -1)",
    ]


@pytest.mark.parametrize("damage", [cut, flip, empty])
def test_a_damaged_shipped_file_is_compiled_anew(
    shipped: dict[str, str], tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """Into this user's cache, since what a package brought is not written to."""
    (path,) = (tmp_path / "site").rglob("*.nbc")
    damage(path)
    before = path.read_bytes()

    assert run(tmp_path / "own", **shipped) == ["compiled divided_by_sums", "(-1, -1)"]
    assert run(tmp_path / "own", **shipped) == ["(-1, -1)"]
    assert path.read_bytes() == before


def test_shipped_kernels_of_another_version(shipped: dict[str, str], tmp_path: Path) -> None:
    """Are left alone, and the log says so: of a changed source no old machine code is run."""
    (folder,) = (tmp_path / "site/lossd_kernels").glob("cp*/x86-64-v3/*")
    folder.rename(folder.with_name("0123456789abcdef"))

    lines = run(tmp_path / "own", **shipped)

    assert "compiled divided_by_sums" in lines
    assert "kernels of another version" in lines
