"""The image as a pod of deploy/kubernetes: its variables, its user, its volumes, and the probes of a kubelet."""

from __future__ import annotations

import ssl
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lossd
from tests.containers.engine import Engine
from tests.deploy.kustomize import KUBERNETES, only, resources
from tests.waiting import until

THREADS = "2"  # of the request, as Kubernetes fills it in
SECRETS = {
    "lossd-tls": {"tls.crt": "server.pem", "tls.key": "server.key"},
    "lossd-tokens": {"tokens": "tokens"},
}


@pytest.fixture
def secrets(engine: Engine, images: dict[str, str], tmp_path: Path) -> dict[str, Path]:
    """Folders as Kubernetes mounts them, by the secret's name; `made` has the client's."""
    made = tmp_path / "made"
    made.mkdir(mode=0o777)
    made.chmod(0o777)
    engine.run("run", "--rm", "--volume", f"{made}:/secrets", "--entrypoint=credentials", "--user=0", images["demo"])
    for secret, files in SECRETS.items():
        (tmp_path / secret).mkdir()
        for name, source in files.items():
            (tmp_path / secret / name).write_bytes((made / source).read_bytes())
    return {name: tmp_path / name for name in (*SECRETS, "made")}


@pytest.fixture
def pods(engine: Engine) -> Iterator[list[str]]:
    """Containers to remove."""
    started: list[str] = []
    yield started
    for container in started:
        engine.run("rm", "--force", container)


def flags(pod: dict[str, Any], secrets: dict[str, Path]) -> Iterator[str]:
    """What a pod says, for `docker run`."""
    (container,) = pod["containers"]
    security = pod["securityContext"]
    yield from ("--user", f"{security['runAsUser']}:{security['runAsGroup']}", "--read-only", "--cap-drop=ALL")
    yield from ("--security-opt=no-new-privileges", "--memory", container["resources"]["limits"]["memory"][:-1])
    for port in container["ports"]:
        yield f"--publish=127.0.0.1::{port['containerPort']}"
    for one in container["env"]:
        yield from ("--env", f"{one['name']}={one.get('value', THREADS)}")
    volumes = {one["name"]: one for one in pod["volumes"]}
    for mount in container["volumeMounts"]:
        volume = volumes[mount["name"]]
        if "secret" in volume:
            yield f"--volume={secrets[volume['secret']['secretName']]}:{mount['mountPath']}:ro"
        else:
            yield f"--tmpfs={mount['mountPath']}:size={volume['emptyDir']['sizeLimit'][:-1]},mode=1777"


def started(
    overlay: str, engine: Engine, images: dict[str, str], secrets: dict[str, Path], pods: list[str]
) -> tuple[dict[str, Any], str]:
    """A pod that listens: its container as the manifest has it, and its name for the engine."""
    pod = only("Deployment", resources(KUBERNETES / "overlays" / overlay))["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    name = engine.run("run", "--detach", *flags(pod, secrets), images["cpu"], *container["args"]).strip()
    pods.append(name)
    until(lambda: "listening on" in engine.run("logs", name), "a server that listens")
    return container, name


def test_plain(engine: Engine, images: dict[str, str], secrets: dict[str, Path], pods: list[str]) -> None:
    """The overlay `cpu` starts and is healthy at the port that the probes ask; SIGTERM ends it in time, with 0."""
    container, name = started("cpu", engine, images, secrets, pods)
    address = engine.run("port", name, str(container["readinessProbe"]["grpc"]["port"])).strip()

    with lossd.Client(address) as client:
        assert client.health()
    engine.run("stop", "--time=45", name)
    assert engine.inspect(name)["State"]["ExitCode"] == 0


def test_secure(engine: Engine, images: dict[str, str], secrets: dict[str, Path], pods: list[str]) -> None:
    """The overlay `secure` answers calls with a token over TLS, and every probe without one."""
    container, name = started("secure", engine, images, secrets, pods)
    ports = {one["name"]: engine.run("port", name, str(one["containerPort"])).strip() for one in container["ports"]}
    unseen = ssl.create_default_context()
    unseen.check_hostname, unseen.verify_mode = False, ssl.CERT_NONE  # as a kubelet does
    token = (secrets["made"] / "token").read_text().strip()

    with lossd.Client(ports["grpc"], ca=secrets["made"] / "ca.pem", token=token) as client:
        assert client.cross_entropy([[0.0, 0.0]], [0]).summary.count == 1
    for kind in ("startup", "readiness", "liveness"):
        probe = container[f"{kind}Probe"]["httpGet"]
        url = f"{probe['scheme'].lower()}://{ports[probe['port']]}{probe['path']}"
        with urllib.request.urlopen(url, context=unseen, timeout=10) as answer:
            assert answer.status == 200
