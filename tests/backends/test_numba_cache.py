"""The name of the folder that compiled kernels are kept in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lossd_server.jobs.kernel_folders import PACKAGE, source_hash


@pytest.fixture
def package(tmp_path: Path) -> Path:
    copy = tmp_path / "lossd_server"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.mark.parametrize(
    "name",
    [
        "backends/numba/batch_table.py",
        "backends/numba/simd/math.py",
        "backends/numba/softmax/row_per_block.py",
        "fast_path/passage.py",
        "jobs/job.py",
        "jobs/reduction.py",
        "tensors/array.py",
        "wire/codec.py",
    ],
)
def test_a_change_of_any_compiled_source_names_another_folder(package: Path, name: str) -> None:
    """However deep the file lies: a stale kernel would compute by the old source."""
    before = source_hash(package)
    with (package / name).open("a") as source:
        source.write("# changed\n")

    assert source_hash(package) != before


def test_other_sources_keep_the_folder(package: Path) -> None:
    """What is not compiled costs nobody a compilation."""
    before = source_hash(package)
    with (package / "rpc/service.py").open("a") as source:
        source.write("# changed\n")

    assert source_hash(package) == before


def test_a_copy_elsewhere_has_the_same_folder(package: Path) -> None:
    """The name depends on what the sources say, not on where they lie."""
    assert source_hash(package) == source_hash(PACKAGE)
