"""deploy/kubernetes: it fits Kubernetes' schemas, its restricted standard, and lossd's settings."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from lossd_server.config.flags import parse_settings
from lossd_server.config.settings import Settings
from tests.deploy.kustomize import KUBERNETES, combined, only, resources
from tests.deploy.metric_names import SERIES

OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
COMPONENTS = {
    "secure": ("service-monitor-tls",),
    "cpu": ("service-monitor", "shared-memory"),
    "gpu": ("tls", "service-monitor-tls"),
}
# preStop's `sleep` came with the first; the last is the newest whose schemas the package has.
VERSIONS = ("1.30", "1.34", "1.37")
GIB = 1 << 30
UNITS = {"Mi": 1 << 20, "Gi": GIB}


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return resources(KUBERNETES / "overlays" / request.param)


def container(found: list[dict[str, Any]]) -> dict[str, Any]:
    (one,) = only("Deployment", found)["spec"]["template"]["spec"]["containers"]
    return dict(one)


def variables(found: list[dict[str, Any]]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container(found)["env"] if "value" in one}


def settings(found: list[dict[str, Any]]) -> Settings:
    """What the server makes of its variables."""
    return parse_settings([], variables(found))


def bytes_of(quantity: str) -> int:
    return int(quantity[:-2]) * UNITS[quantity[-2:]]


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    return bool(selector) and selector.items() <= labels.items()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", OVERLAYS)
def test_schemas(name: str, version: str, tmp_path: Path) -> None:
    """Each overlay, with the components that go with it, is valid for the Kubernetes of each version, strictly."""
    found = combined(tmp_path, name, *COMPONENTS[name])

    assert {"Deployment", "Service", "HorizontalPodAutoscaler", "NetworkPolicy"} < {one["kind"] for one in found}
    for one in found:
        if one["kind"] != "ServiceMonitor":  # the operator's kind, not Kubernetes'
            kubernetes_validate.validate(one, version, strict=True)


def test_restricted(overlay: list[dict[str, Any]]) -> None:
    """Pods keep the restricted Pod Security Standard, have a read-only root, and know nothing of the cluster."""
    pod, one = only("Deployment", overlay)["spec"]["template"]["spec"], container(overlay)

    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {kind for volume in pod["volumes"] for kind in volume} <= {"name", "emptyDir", "secret"}
    assert only("Namespace", overlay)["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_variables_are_settings(overlay: list[dict[str, Any]]) -> None:
    """A variable that is misspelt would be passed over in silence."""
    known = {f"LOSSD_{field.name.upper()}" for field in fields(Settings)}

    assert [one["name"] for one in container(overlay)["env"] if one["name"] not in known] == []


def test_memory_holds_what_is_let_in(overlay: list[dict[str, Any]]) -> None:
    """Twice the bytes in flight, for answers, and half a GiB of server fit, and /tmp is of the same memory."""
    limit = bytes_of(container(overlay)["resources"]["limits"]["memory"])
    (tmp,) = (
        bytes_of(one["emptyDir"]["sizeLimit"])
        for one in only("Deployment", overlay)["spec"]["template"]["spec"]["volumes"]
        if one["name"] == "tmp"
    )

    assert 2 * settings(overlay).max_inflight_bytes + tmp + GIB // 2 <= limit


def test_a_pod_has_time_to_drain(overlay: list[dict[str, Any]]) -> None:
    """preStop and the drain, and five seconds more, pass before Kubernetes kills."""
    spec = only("Deployment", overlay)["spec"]["template"]["spec"]
    pause = container(overlay)["lifecycle"]["preStop"]["sleep"]["seconds"]

    assert pause + settings(overlay).drain_s + 5 <= spec["terminationGracePeriodSeconds"]


def test_probes_reach_the_server(overlay: list[dict[str, Any]]) -> None:
    """gRPC's on a plain port; over TLS, which they do not speak, HTTPS ones at the HTTP port."""
    ports = {one["name"]: one["containerPort"] for one in container(overlay)["ports"]}
    probes = [container(overlay)[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")]
    one = variables(overlay)

    assert one["LOSSD_LISTEN"] == f"0.0.0.0:{ports['grpc']}"
    assert one["LOSSD_HTTP"] == f"0.0.0.0:{ports['http']}"
    if settings(overlay).tls_cert:
        assert not settings(overlay).insecure
        assert [probe["httpGet"]["path"] for probe in probes] == ["/readyz", "/readyz", "/healthz"]
        assert {(probe["httpGet"]["scheme"], probe["httpGet"]["port"]) for probe in probes} == {("HTTPS", "http")}
        assert not any("grpc" in probe for probe in probes)
    else:
        assert [probe["grpc"]["port"] for probe in probes] == [ports["grpc"]] * 3


def test_selectors_pick_their_own_pods(overlay: list[dict[str, Any]]) -> None:
    """Those of one overlay, and of no other that lies beside it: two deployments would fight for a pod."""
    selectors = [
        only("Deployment", overlay)["spec"]["selector"]["matchLabels"],
        only("Service", overlay)["spec"]["selector"],
        only("PodDisruptionBudget", overlay)["spec"]["selector"]["matchLabels"],
        only("NetworkPolicy", overlay)["spec"]["podSelector"]["matchLabels"],
    ]
    name, pod = only("Deployment", overlay)["metadata"]["name"], only("Deployment", overlay)["spec"]["template"]
    neighbours = [only("Deployment", resources(KUBERNETES / "overlays" / other)) for other in OVERLAYS]

    assert all(selects(one, pod["metadata"]["labels"]) for one in selectors)
    for other in neighbours:
        if other["metadata"]["name"] != name:
            labels = other["spec"]["template"]["metadata"]["labels"]
            assert not any(selects(one, labels) for one in selectors)


def test_the_service_is_headless(overlay: list[dict[str, Any]]) -> None:
    """So that gRPC clients see every pod; its ports are the container's."""
    service = only("Service", overlay)["spec"]

    assert service["clusterIP"] == "None"
    assert {one["targetPort"] for one in service["ports"]} == {one["name"] for one in container(overlay)["ports"]}


def test_clients_are_let_in_by_their_label(overlay: list[dict[str, Any]]) -> None:
    """kustomize adds labels to selectors: here it would ask a client to be a server. Nothing goes out."""
    policy = only("NetworkPolicy", overlay)["spec"]
    clients, prometheus = policy["ingress"]

    assert clients["from"][0]["podSelector"] == {"matchExpressions": [{"key": "lossd-client", "operator": "Exists"}]}
    assert (clients["ports"], prometheus["ports"]) == ([{"port": "grpc"}], [{"port": "http"}])
    assert policy["egress"] == []


def test_clients_find_new_pods(overlay: list[dict[str, Any]]) -> None:
    """Connections end by age: an autoscaler's new pods would have no caller otherwise."""
    age_s = settings(overlay).max_connection_age_s

    assert 0 < age_s <= 600


def test_the_autoscaler_goes_by_a_metric_that_is_there(overlay: list[dict[str, Any]]) -> None:
    """Its metric is the server's, and it scales this deployment, which says no number itself."""
    scaler, deployment = only("HorizontalPodAutoscaler", overlay)["spec"], only("Deployment", overlay)
    names = [one["pods"]["metric"]["name"] for one in scaler["metrics"] if one["type"] == "Pods"]

    assert names == ["lossd_utilization"]
    assert names[0] in SERIES
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"]
    assert scaler["minReplicas"] >= 2


def test_a_monitor_finds_the_service(tmp_path: Path) -> None:
    """With TLS it takes the authority and the token from secrets, and none of it is skipped."""
    found = combined(tmp_path, "secure", "service-monitor-tls")
    (endpoint,) = only("ServiceMonitor", found)["spec"]["endpoints"]
    labels = only("Service", found)["metadata"]["labels"]

    assert selects(only("ServiceMonitor", found)["spec"]["selector"]["matchLabels"], labels)
    assert endpoint["scheme"] == "https"
    assert endpoint["port"] in {one["name"] for one in only("Service", found)["spec"]["ports"]}
    assert "insecureSkipVerify" not in endpoint["tlsConfig"]
    assert endpoint["authorization"]["credentials"] == {"name": "lossd-prometheus", "key": "token"}
