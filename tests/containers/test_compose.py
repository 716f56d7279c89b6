"""The compose file, with the commands that stand at its top."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

import lossd
from tests.containers.engine import ROOT, NoEngineError, Project
from tests.waiting import until

LOGITS, TARGET = [[0.0, 0.0]], [0]
UP = quote('up{job="lossd"} == 1')


@pytest.fixture(scope="module")
def secure(project: Project) -> str:
    """Address of a server with TLS that asks for a token."""
    project.credentials()
    project.compose("--profile=secure", "up", "--detach", "--no-build", "server-secure")
    until(lambda: project.healthy("server-secure"), "health of server-secure")
    return project.address("server-secure", 50051)


def test_the_demo_passes(project: Project) -> None:
    """Server and demo as two containers: the demo waits until the server is healthy, and every number is right."""
    project.compose("up", "--detach", "--no-build", "server")
    until(lambda: project.healthy("server"), "health of server")
    printed = project.compose("run", "--rm", "demo")

    assert printed.rstrip().endswith("Every number is right.")


def test_stop_is_a_clean_end(project: Project) -> None:
    """`docker compose stop` lets the server finish: its exit status is 0."""
    project.compose("up", "--detach", "--no-build", "server")
    until(lambda: project.healthy("server"), "health of server")
    container = project.container("server")
    project.compose("stop", "server")

    assert project.engine.inspect(container)["State"]["ExitCode"] == 0


def test_secure_asks_for_a_token(project: Project, secure: str) -> None:
    """A call without a token, or with a wrong one, is refused; with the token it is answered."""
    ca, token = project.secrets / "ca.pem", (project.secrets / "token").read_text().strip()
    for wrong, reason in ((None, "NO_CREDENTIALS"), ("x" * len(token), "UNKNOWN_TOKEN")):
        with lossd.Client(secure, ca=ca, token=wrong) as client, pytest.raises(lossd.Unauthenticated) as refused:
            client.cross_entropy(LOGITS, TARGET)
        assert refused.value.reason == reason
    with lossd.Client(secure, ca=ca, token=token) as client:
        answered = client.cross_entropy(LOGITS, TARGET)

    assert float(answered.loss) == pytest.approx(0.6931471805599453)


def test_secure_has_no_plain_port(secure: str) -> None:
    """Without TLS nothing is answered, health neither."""
    with lossd.Client(secure, connect_timeout=5.0) as client, pytest.raises(lossd.Unavailable):
        client.health()


def test_the_demo_passes_with_tls_and_token(project: Project, secure: str) -> None:
    """Another container finds authority and token in its secrets."""
    assert secure
    printed = project.compose("run", "--rm", "demo-secure")

    assert printed.rstrip().endswith("Every number is right.")


def test_new_credentials_need_no_restart(project: Project, secure: str) -> None:
    """Made anew while the server runs: new connections get the new certificate, and the new token holds."""
    container = project.container("server-secure")
    started = project.engine.inspect(container)["State"]["StartedAt"]
    before = (project.secrets / "ca.pem").read_bytes()
    project.credentials()
    ca, token = project.secrets / "ca.pem", (project.secrets / "token").read_text().strip()

    assert ca.read_bytes() != before
    until(lambda: _answers(secure, ca, token), "an answer under the new certificate to the new token")
    assert project.engine.inspect(container)["State"]["StartedAt"] == started


def _answers(address: str, ca: Path, token: str) -> bool:
    try:
        with lossd.Client(address, ca=ca, token=token, connect_timeout=2.0) as client:
            return client.cross_entropy(LOGITS, TARGET).summary.count == 1
    except (lossd.Unavailable, lossd.Unauthenticated):
        return False


def test_prometheus_has_the_server(project: Project) -> None:
    """The profile `metrics`: Prometheus finds the server by name, scrapes it, and has the rules."""
    address = _started(project, "metrics", "prometheus", 9090)
    project.compose("up", "--detach", "--no-build", "server")
    until(lambda: _is_scraped(address), "a scrape of the server")
    (group,) = _json(f"http://{address}/api/v1/rules")["data"]["groups"]
    metrics = set(_json(f"http://{address}/api/v1/label/__name__/values")["data"])

    assert group["name"] == "lossd"
    assert {rule["health"] for rule in group["rules"]} <= {"ok", "unknown"}
    assert {"lossd_build_info", "lossd_waiting_requests", "grpc_server_started_total"} <= metrics


def test_prometheus_has_the_server_with_tls_and_token(project: Project, secure: str) -> None:
    """The profile `metrics-secure`: the authority and a token of Prometheus's own, from secrets."""
    assert secure
    address = _started(project, "metrics-secure", "prometheus-secure", 9090)

    until(lambda: _is_scraped(address), "a scrape over TLS with a token")


def test_grafana_has_the_dashboard(project: Project) -> None:
    """It is there without a password, under its own name, and its source of data is Prometheus."""
    address = _started(project, "metrics", "grafana", 3000)
    until(lambda: _json(f"http://{address}/api/health") is not None, "Grafana's health")
    found = _json(f"http://{address}/api/dashboards/uid/lossd")
    stored = json.loads((ROOT / "deploy/grafana/dashboards/lossd.json").read_text(encoding="utf-8"))

    assert len(found["dashboard"]["panels"]) == len(stored["panels"])


def _started(project: Project, profile: str, service: str, port: int) -> str:
    """Skipped where the public image is neither here nor can be had."""
    configured = yaml.safe_load(project.compose(f"--profile={profile}", "config"))
    try:
        project.engine.need(configured["services"][service]["image"])
    except NoEngineError as error:
        pytest.skip(str(error))
    project.compose(f"--profile={profile}", "up", "--detach", "--no-build", "--no-deps", service)
    return project.address(service, port)


def _json(url: str) -> Any:
    """None where nothing answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)
    except OSError:
        return None


def _is_scraped(prometheus: str) -> bool:
    found = _json(f"http://{prometheus}/api/v1/query?query={UP}")
    return found is not None and found["data"]["result"] != []
