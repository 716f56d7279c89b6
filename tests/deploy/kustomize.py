"""kustomize: a folder of deploy/kubernetes as the resources that a cluster gets."""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

KUBERNETES = Path(__file__).parents[2] / "deploy/kubernetes"
OLDEST = 5  # below it, labels and components are others


@cache
def _command() -> tuple[str, ...] | None:
    """Of kustomize itself, or of the kubectl that has it."""
    if shutil.which("kustomize"):
        return ("kustomize", "build")
    if shutil.which("kubectl"):
        told = _run("kubectl", "version", "--client", "--output=json")
        version = json.loads(told).get("kustomizeVersion", "v0").lstrip("v")
        if int(version.partition(".")[0]) >= OLDEST:
            return ("kubectl", "kustomize")
    return None


@cache
def _rendered(folder: Path) -> str:
    command = _command()
    if command is None:
        pytest.skip(f"neither kustomize nor a kubectl that has kustomize {OLDEST} is installed")
    return _run(*command, str(folder))


def resources(folder: Path) -> list[dict[str, Any]]:
    """All that a folder with a kustomization makes."""
    return list(yaml.safe_load_all(_rendered(folder)))


def combined(at: Path, overlay: str, *components: str) -> list[dict[str, Any]]:
    """An overlay with components, as a folder of the reader's own names them."""
    # Paths of a kustomization are relative, and stay below one root.
    up = "../" * len(at.resolve().parts[1:])
    root = str(KUBERNETES.resolve()).lstrip("/")
    own = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{up}{root}/overlays/{overlay}"],
        "components": [f"{up}{root}/components/{name}" for name in components],
    }
    (at / "kustomization.yaml").write_text(yaml.safe_dump(own))
    return resources(at)


def only(kind: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    """The one resource of a kind."""
    (one,) = (each for each in found if each["kind"] == kind)
    return one


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
