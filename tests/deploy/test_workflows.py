"""GitHub's workflows: what they call is there, and what publishes is signed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def steps(path: Path) -> list[dict[str, Any]]:
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_commands_are_there(path: Path) -> None:
    """Every target of make, every program of the tree."""
    made = "".join(each.read_text(encoding="utf-8") for each in (ROOT / "Makefile", ROOT / "tools/environments.mk"))
    for step in steps(path):
        for target in re.findall(r"make ([a-z-]+)", step.get("run", "")):
            assert re.search(rf"^{target}:", made, re.M), target
        for program in re.findall(r"(?:^|\s)((?:tools|\.ci)/\S+)", step.get("run", "")):
            assert (ROOT / program).exists(), program


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_nothing_may_write_that_need_not(path: Path) -> None:
    """The default is to read; a job that publishes says what else."""
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["permissions"] == {"contents": "read"}


def test_a_release_is_signed_before_it_is_published() -> None:
    """Where each file was built is attested, and no password is kept."""
    release = steps(ROOT / ".github/workflows/release.yml")
    used = [step.get("uses", "").partition("@")[0] for step in release]

    assert used.index("actions/attest-build-provenance") < used.index("pypa/gh-action-pypi-publish")
    assert not any("password" in step.get("with", {}) for step in release)


def test_the_released_pythons_are_the_declared_ones() -> None:
    """Kernels are built for what pyproject.toml declares."""
    declared = re.findall(r"Programming Language :: Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text("utf-8"))
    release = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))

    assert release["jobs"]["kernels"]["strategy"]["matrix"]["python"] == declared
