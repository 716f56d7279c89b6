"""The wheel and the sdist as files."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

from tests.packages.conftest import ROOT, TOOLS, run

PACKAGES = {"lossd", "lossd_server"}


def test_twine_takes_them(dist: Path) -> None:
    """Metadata and README, as an index would show them."""
    told = run(TOOLS, "-m", "twine", "check", "--strict", *dist.glob("lossd-*"))

    assert told.count("PASSED") == 2


def test_the_wheel_has_the_packages_and_nothing_else(wheel: Path) -> None:
    """Every module, the types' marker, the protos and the licence."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    tops = {name.split("/")[0] for name in names}
    sources = {
        path.relative_to(ROOT / side).as_posix()
        for side in ("client", "server")
        for path in (ROOT / side).rglob("*.py")
    }

    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES
    assert sources <= names
    assert {"lossd/py.typed", "lossd_server/py.typed", "lossd/v1/service.proto"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_sdist_builds_the_same_wheel(dist: Path, wheel: Path, tmp_path: Path) -> None:
    """Who builds from source gets what others install."""
    (source,) = dist.glob("lossd-*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (folder,) = (tmp_path / "source").iterdir()
    build = f"import os; os.chdir({str(folder)!r}); from hatchling.cli import hatchling; hatchling()"
    run(TOOLS, "-c", build, "build", "--target", "wheel", "--directory", tmp_path / "built")
    (built,) = (tmp_path / "built").iterdir()

    assert contents(built) == contents(wheel)


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
