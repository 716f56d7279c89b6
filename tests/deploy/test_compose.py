"""The compose file: what it may not lose, and the secrets that its servers are given."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lossd_server.config.flags import parse_settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]


@pytest.mark.parametrize("name", SERVICES)
def test_services_are_confined(name: str) -> None:
    """No capability, no new privileges, a limit of memory, and ports on this host's loopback alone."""
    service = SERVICES[name]
    loopback = ("127.0.0.1:", "${LOSSD_SECURE_ADDRESS:-127.0.0.1}:")

    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "mem_limit" in service
    assert all(port.startswith(loopback) for port in service.get("ports", ()))
    # Grafana writes beside its data.
    assert service.get("read_only", False) or name == "grafana"


def test_what_is_published_further_has_tls_and_tokens() -> None:
    """The one address that a variable may open is that of a server with both, and without --insecure."""
    (name,) = (name for name, one in SERVICES.items() if "LOSSD_SECURE_ADDRESS" in str(one.get("ports")))
    command, environment = SERVICES[name]["command"], SERVICES[name]["environment"]
    settings = parse_settings(command[2:], environment)

    assert command[:2] == ["lossd", "serve"]
    assert not settings.insecure
    assert settings.tls_cert
    assert settings.tls_key
    assert settings.tokens


def test_credentials_makes_every_secret(tmp_path: Path) -> None:
    """Each file that the compose file names as a secret; whoever else is on the host does not get into the folder."""
    tmp_path.chmod(0o755)
    made_by_it(tmp_path)
    named = {Path(one["file"]).name for one in COMPOSE["secrets"].values()}

    assert named == {path.name for path in tmp_path.iterdir()}
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    # The server's user in the container is another one.
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}


def test_credentials_are_renewed_where_they_lie(tmp_path: Path) -> None:
    """A file that is mounted by itself stays the same file: only so does a running server see the change."""
    made_by_it(tmp_path)
    before = {path.name: (path.stat().st_ino, path.read_bytes()) for path in tmp_path.iterdir()}
    made_by_it(tmp_path)
    after = {path.name: (path.stat().st_ino, path.read_bytes()) for path in tmp_path.iterdir()}

    assert {name: one[0] for name, one in before.items()} == {name: one[0] for name, one in after.items()}
    assert not [name for name, one in before.items() if one[1] == after[name][1]]
    assert after["tokens"][1].startswith(before["tokens"][1])


def made_by_it(folder: Path) -> None:
    """What `docker compose run credentials` does, with this environment's lossd."""
    programs = folder.parent / "programs"
    programs.mkdir(exist_ok=True)
    lossd = programs / "lossd"
    lossd.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lossd "$@"\n')
    lossd.chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        [ROOT / "deploy/credentials"],
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "client"), "LOSSD_SECRETS": str(folder)},
        check=True,
        capture_output=True,
        timeout=60,
    )
