"""Two replicas under load, by clients that know the cluster's HTTP port alone."""

from __future__ import annotations

import importlib.util
import time

import pytest

import lossd
from tests.ray.conftest import Cluster
from tests.scale.load import load, python_load
from tests.waiting import until


def completed(address: str) -> int:
    try:
        with lossd.Client(address, connect_timeout=2.0) as client:
            return client.info(timeout=5.0).statistics.completed
    except lossd.Error:
        return 0


def shares(servers: list[str], seconds: float) -> list[float]:
    """Of what they completed in so long."""
    before = [completed(one) for one in servers]
    time.sleep(seconds)
    done = [max(0, completed(one) - then) for one, then in zip(servers, before, strict=True)]
    return [one / max(1, sum(done)) for one in done]


def living(cluster: Cluster) -> list[str]:
    """Of the addresses that the cluster tells, those where somebody answers."""
    return [one for one in cluster.servers() if completed(one) > 0 or answers(one)]


def answers(address: str) -> bool:
    try:
        with lossd.Client(address, connect_timeout=2.0) as client:
            return client.health()
    except lossd.Error:
        return False


def test_clients_need_no_ray(two_replicas: Cluster) -> None:
    """It is not installed where they are."""
    assert importlib.util.find_spec("ray") is None
    with lossd.Client(two_replicas.address) as client:
        assert client.health()


@pytest.mark.parametrize("way", ["small", "blocking", "large", "map"])
def test_a_replica_that_is_killed(two_replicas: Cluster, way: str) -> None:
    """No wrong answer, none that fails; whole again within 10 s of its return."""
    until(lambda: len(living(two_replicas)) == 2, "two replicas")
    before = living(two_replicas)
    with load(python_load(two_replicas.address, way)) as calls:
        killed_s = time.monotonic()
        two_replicas.tell(f"kill {two_replicas.tell('replicas')[0]}")
        until(lambda: set(living(two_replicas)) - set(before) != set(), "a replica in its place")
        returned_s = time.monotonic()
        whole = ""
        if way in ("small", "blocking"):  # a stream stays where it is
            servers = living(two_replicas)
            until(lambda: min(shares(servers, 0.5)) > 1 / 3, "a fair share of the calls")
            whole_s = time.monotonic() - returned_s
            whole = f", whole {whole_s:.1f} s after its return"
            assert whole_s < 10.0
        outcome = calls.end()
    print(f"{way}: back after {returned_s - killed_s:.1f} s{whole}, {outcome.answered} answers")

    assert outcome[1:] == (0, 0, "")


def test_all_of_them_are_killed(two_replicas: Cluster) -> None:
    """Calls wait for those that come in their place: nothing fails."""
    until(lambda: len(living(two_replicas)) == 2, "two replicas")
    before = living(two_replicas)
    with load(python_load(two_replicas.address, "small")) as calls:
        for pid in two_replicas.tell("replicas"):
            two_replicas.tell(f"kill {pid}")
        until(lambda: len(set(living(two_replicas)) - set(before)) == 2, "two others")
        servers = living(two_replicas)
        until(lambda: min(map(completed, servers)) > 0, "calls at both")
        outcome = calls.end()
    print(f"all killed: {outcome.answered} answers")

    assert outcome[1:] == (0, 0, "")


def test_fewer_and_more(two_replicas: Cluster) -> None:
    """A replica that is taken away drains, and one that is added is found: nothing fails."""
    until(lambda: len(living(two_replicas)) == 2, "two replicas")
    with load(python_load(two_replicas.address, "small")) as calls:
        two_replicas.tell("scale 1")
        until(lambda: len(two_replicas.tell("replicas")) == 1, "one replica")
        two_replicas.tell("scale 2")
        until(lambda: len(living(two_replicas)) == 2, "two replicas again")
        servers = living(two_replicas)
        until(lambda: min(map(completed, servers)) > 0, "calls at both")
        outcome = calls.end()
    print(f"taken away and added: {outcome.answered} answers")

    assert outcome[1:] == (0, 0, "")
