"""Container engine: the commands of the one that answers here, or why none does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# The bridge that a build has otherwise reaches nothing on some machines.
BUILD = ("build", "--network=host", "--progress=plain")


class NoEngineError(Exception):
    """Why nothing can be built or run here, in the engine's own words."""


@dataclass(frozen=True)
class Engine:
    """docker: a client that has BuildKit. compose: the plugin, or the program that came before it."""

    docker: str
    compose: tuple[str, ...]

    def run(self, *arguments: str, check: bool = True) -> str:
        """What `docker ARGUMENTS` prints."""
        return _output([self.docker, *arguments], {"DOCKER_BUILDKIT": "1"}, check=check)

    def inspect(self, name: str) -> dict[str, Any]:
        """What the engine knows of a container or an image."""
        (found,) = json.loads(self.run("inspect", name))
        return dict(found)

    def need(self, image: str) -> None:
        """Raises NoEngineError where an image is neither here nor can be had."""
        try:
            self.run("image", "inspect", image)
        except subprocess.CalledProcessError:
            try:
                self.run("pull", "--quiet", image)
            except subprocess.CalledProcessError as error:
                raise NoEngineError(f"{image} cannot be pulled: {_last_line(error)}") from error


def engine_here() -> Engine:
    """Raises NoEngineError."""
    found = [path for folder in os.get_exec_path() if (path := shutil.which("docker", path=folder))]
    if not found:
        raise NoEngineError("there is no program `docker`")
    try:
        _output([found[0], "version"])
    except subprocess.CalledProcessError as error:
        raise NoEngineError(f"no container engine answers: {_last_line(error)}") from error
    docker = next(filter(_has_buildkit, found), None)
    if docker is None:
        raise NoEngineError("`docker` has no BuildKit: its plugin buildx is missing")
    compose = next(filter(_works, ((docker, "compose"), ("docker-compose",))), None)
    if compose is None:
        raise NoEngineError("there is neither `docker compose` nor `docker-compose`")
    return Engine(docker, compose)


@dataclass(frozen=True)
class Project:
    """One start of the compose file, beside others: its own name, ports, volumes and secrets."""

    engine: Engine
    name: str
    secrets: Path

    def compose(self, *arguments: str) -> str:
        """What `docker compose ARGUMENTS` prints."""
        variables = {
            "COMPOSE_PROJECT_NAME": self.name,
            "LOSSD_SECRETS": str(self.secrets),
            # Any that is free.
            **dict.fromkeys(("LOSSD_PORT", "LOSSD_SECURE_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT"), "0"),
        }
        return _output([*self.engine.compose, *arguments], variables)

    def address(self, service: str, port: int) -> str:
        """Where this host reaches a service's port."""
        return self.compose("port", service, str(port)).strip()

    def container(self, service: str) -> str:
        return self.compose("ps", "--quiet", service).strip()

    def healthy(self, service: str) -> bool:
        return bool(self.engine.inspect(self.container(service))["State"]["Health"]["Status"] == "healthy")

    def credentials(self) -> None:
        """What a reader of docker-compose.yml types."""
        self.compose("run", "--rm", "--user", f"{os.getuid()}:{os.getgid()}", "credentials")


def _has_buildkit(docker: str) -> bool:
    """Clients below 23 have it themselves, later ones as a plugin."""
    version = _output([docker, "version", "--format", "{{.Client.Version}}"], check=False)
    return int(version.partition(".")[0] or 99) < 23 or _works((docker, "buildx"))


def _works(command: Sequence[str]) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0


def _output(command: Sequence[str], variables: Mapping[str, str] | None = None, *, check: bool = True) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **(variables or {})}, capture_output=True, text=True, check=False
    )
    if check and done.returncode:
        print(done.stdout, done.stderr)  # pytest shows it where the test fails
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done.stdout


def _last_line(error: subprocess.CalledProcessError) -> str:
    lines = (error.stderr or error.stdout).strip().splitlines()
    return str(lines[-1]) if lines else f"exit status {error.returncode}"
