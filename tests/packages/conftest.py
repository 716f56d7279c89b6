"""What is published, built once, and the Pythons that it is installed on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".venv/packages/bin/python"
# Those that pyproject.toml declares.
PYTHONS = ("3.11", "3.12", "3.13")
LIMIT_S = 900.0  # of a compilation of all kernels for two levels on a busy machine


def run(*command: str | Path, **given: str) -> str:
    """What a command printed; given: further environment."""
    hidden = {"PYTHONPATH", "VIRTUAL_ENV", "LOSSD_CACHE_DIR", "PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT"}  # make has them
    environment = {name: value for name, value in os.environ.items() if name not in hidden} | given
    done = subprocess.run(
        [str(part) for part in command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        cwd=ROOT / "build",
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def interpreter(version: str) -> str | None:
    """A Python of that version which runs: one on the path, or pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = [sys.executable] if version == here else []
    found += [path for path in (shutil.which(f"python{version}"),) if path]
    found += [str(path) for path in sorted(pyenv.glob(f"{version}.*/bin/python"))]
    for path in found:
        told = subprocess.run(
            [path, "-c", "import sys, venv; print(sys.version_info[:2])"], capture_output=True, text=True
        )
        if told.stdout.strip() == str(tuple(map(int, version.split(".")))):
            return path
    return None


def environment(folder: Path, python: str, *installed: str | Path) -> Path:
    """A fresh environment with what is installed by pip, within constraints.txt; its Python."""
    run(python, "-m", "venv", folder)
    made = folder / "bin/python"
    constraints = {"PIP_CONSTRAINT": str(ROOT / "constraints.txt"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    run(made, "-m", "pip", "--quiet", "install", *installed, **constraints)
    return made


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with wheel and sdist."""
    if not TOOLS.exists():
        pytest.fail(f"{TOOLS} is missing: make .venv/packages/made")
    folder = tmp_path_factory.mktemp("dist")
    (ROOT / "build").mkdir(exist_ok=True)
    subprocess.run(
        [TOOLS, "-m", "hatchling", "build", "--directory", folder], cwd=ROOT, check=True, capture_output=True
    )
    return folder


@pytest.fixture(scope="session")
def wheel(dist: Path) -> Path:
    (found,) = dist.glob("lossd-*.whl")
    return found


@pytest.fixture(scope="session", params=PYTHONS)
def python(request: pytest.FixtureRequest) -> str:
    """An interpreter of each declared version that is here."""
    found = interpreter(request.param)
    if found is None:
        pytest.skip(f"no Python {request.param} is here")
    return found


@pytest.fixture(scope="session")
def serving(wheel: Path, python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with lossd[server]."""
    return environment(tmp_path_factory.mktemp("serving"), python, f"{wheel}[server]")


@pytest.fixture(scope="session")
def kernels(dist: Path, serving: Path) -> Path:
    """The kernels' wheel, of the Python that runs the tests: minutes of compilation for each."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if run(serving, "-c", "import sys; print(*sys.version_info[:2], sep='.')").strip() != here:
        pytest.skip(f"kernels are compiled for Python {here}")
    run(serving, "-m", "pip", "--quiet", "install", "hatchling", PIP_CONSTRAINT=str(ROOT / "constraints.txt"))
    folder = dist / serving.parents[1].name
    run(serving, ROOT / "tools/kernels_wheel.py", folder)
    (found,) = folder.glob("lossd_kernels-*.whl")
    return found
