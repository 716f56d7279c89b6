"""Serve reads the config of deploy/kubernetes/ray."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import yaml

from tests.deploy.kustomize import KUBERNETES, only, resources
from tests.ray.conftest import interpreter


def test_serve_takes_the_config_of_the_ray_service() -> None:
    """By its own schema, which refuses names that it does not know."""
    service = only("RayService", resources(KUBERNETES / "ray"))
    config = json.dumps(yaml.safe_load(service["spec"]["serveConfigV2"]))
    program = Path(__file__).with_name("read_config.py")
    read = subprocess.run([interpreter(), program], input=config, capture_output=True, text=True, check=False)

    assert read.stdout.split() == ["lossd_server.ray_app:app"], read.stderr
