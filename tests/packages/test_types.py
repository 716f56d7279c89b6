"""A user's program, as type checkers read the installed client's types: nothing is unknown, and a mistake is found."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packages.conftest import LIMIT_S, environment, interpreter

PROGRAM = Path(__file__).parent / "typed_program.py"
PYRIGHT = "pyright@1.1.400"
WRONG = {
    'client.cross_entropy(logits, target, label_smoothing=0.1, reduction="mean")': (
        'client.cross_entropy(logits, target, label_smoothing="much", reduction="mean")'
    ),
    "client.info().version": "client.info().versoin",
}


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the thin client and mypy."""
    found = interpreter("3.11")
    assert found is not None
    return environment(tmp_path_factory.mktemp("typed"), found, wheel, "mypy")


def mypy(python: Path, program: Path) -> subprocess.CompletedProcess[str]:
    return checked([str(python), "-m", "mypy", "--strict", str(program)], program.parent)


def pyright(python: Path, program: Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("npx") is None:
        pytest.skip("npm is not here, which brings pyright")
    return checked(["npx", "--yes", PYRIGHT, "--pythonpath", str(python), str(program)], program.parent)


def checked(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


@pytest.mark.parametrize("check", [mypy, pyright])
def test_a_program_is_right(python: Path, check: object, tmp_path: Path) -> None:
    """Under mypy --strict, and pyright."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.read_text(encoding="utf-8"), encoding="utf-8")
    assert callable(check)
    done = check(python, program)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("check", [mypy, pyright])
@pytest.mark.parametrize("right", WRONG)
def test_a_mistake_is_found(python: Path, check: object, right: str, tmp_path: Path) -> None:
    """An option of the wrong type, and a name that is not there."""
    text = PROGRAM.read_text(encoding="utf-8")
    assert right in text
    program = tmp_path / "program.py"
    program.write_text(text.replace(right, WRONG[right]), encoding="utf-8")
    assert callable(check)
    done = check(python, program)

    assert done.returncode == 1, done.stdout + done.stderr
