"""deploy/kubernetes/ray: its pods fit Kubernetes' schemas, its arguments lossd's, and both each other."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest
import yaml

from lossd_server.ray_app.arguments import Arguments, read_arguments
from tests.deploy.kustomize import KUBERNETES, only, resources
from tests.deploy.test_kubernetes import GIB, VERSIONS, bytes_of


@pytest.fixture
def cluster() -> dict[str, Any]:
    return dict(only("RayService", resources(KUBERNETES / "ray"))["spec"])


@pytest.fixture
def application(cluster: dict[str, Any]) -> dict[str, Any]:
    (one,) = yaml.safe_load(cluster["serveConfigV2"])["applications"]
    return dict(one)


@pytest.fixture
def arguments(application: dict[str, Any]) -> Arguments:
    return read_arguments(application["args"], {})


def workers(cluster: dict[str, Any]) -> dict[str, Any]:
    (one,) = cluster["rayClusterConfig"]["workerGroupSpecs"]
    return dict(one)


@pytest.mark.parametrize("version", VERSIONS)
def test_schemas(cluster: dict[str, Any], version: str) -> None:
    """Of the pods that the operator makes, and of the policy. The rest is the operator's kind, not Kubernetes'."""
    for group in (cluster["rayClusterConfig"]["headGroupSpec"], workers(cluster)):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": group["template"]["spec"]}
        kubernetes_validate.validate(pod, version, strict=True)
    kubernetes_validate.validate(only("NetworkPolicy", resources(KUBERNETES / "ray")), version, strict=True)


def test_a_pod_has_one_replica(cluster: dict[str, Any], arguments: Arguments) -> None:
    """All of its cores, so that its port is free; the head has none."""
    assert workers(cluster)["rayStartParams"]["num-cpus"] == f"{arguments.num_cpus:g}"
    assert cluster["rayClusterConfig"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert (workers(cluster)["minReplicas"], workers(cluster)["maxReplicas"]) == (
        arguments.replicas,
        arguments.max_replicas,
    )


def test_ports(cluster: dict[str, Any], arguments: Arguments) -> None:
    """Clients reach Serve's and the replica's, which the policy lets through."""
    (one,) = workers(cluster)["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in one["ports"]}
    policy = only("NetworkPolicy", resources(KUBERNETES / "ray"))["spec"]

    assert arguments.settings.listen == (f"0.0.0.0:{ports['grpc']}",)
    assert yaml.safe_load(cluster["serveConfigV2"])["http_options"]["port"] == ports["serve"]
    assert {port["port"] for port in policy["ingress"][0]["ports"]} == {ports["grpc"], ports["serve"]}


def test_memory_holds_what_is_let_in(cluster: dict[str, Any], arguments: Arguments) -> None:
    """Twice the bytes in flight, half a GiB of server, and a GiB of Ray."""
    (one,) = workers(cluster)["template"]["spec"]["containers"]

    assert 2 * arguments.settings.max_inflight_bytes + GIB * 3 // 2 <= bytes_of(one["resources"]["limits"]["memory"])


def test_a_pod_has_time_to_drain(cluster: dict[str, Any], arguments: Arguments) -> None:
    """The six seconds in which clients hear of it, the drain, and some more."""
    grace_s = workers(cluster)["template"]["spec"]["terminationGracePeriodSeconds"]

    assert 6 + arguments.settings.drain_s + 10 <= grace_s
