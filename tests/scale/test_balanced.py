"""Three servers behind one list, under load: the slow one is spared, and who comes and goes is not noticed."""

from __future__ import annotations

import base64
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import lossd
from lossd.request.build import build
from tests.docs.named_tests import ROOT
from tests.scale.load import load, python_load
from tests.scale.three_servers import ServerProcess, listed, shares, three_servers

NODE = Path(os.environ.get("NODE_CLIENT", ROOT / "build/interop/node"))
# What one attempt takes and one look at the shares: the servers are asked one after the other.
LOOK_S = 0.5


@pytest.fixture
def servers() -> Iterator[list[ServerProcess]]:
    with three_servers() as some:
        yield some


def first_s(
    servers: list[ServerProcess], which: int, holds: Callable[[float, float], bool], most_s: float
) -> tuple[float, list[float]]:
    """Seconds until `holds` is true of the shares of the server and of the mean of the others."""
    begun_s = time.monotonic()
    seen = []
    while time.monotonic() < begun_s + most_s:
        found = shares(servers, LOOK_S)
        seen.append([round(one, 3) for one in found])
        others = (sum(found) - found[which]) / 2
        if holds(found[which], others):
            return time.monotonic() - begun_s, found
    raise AssertionError(f"not within {most_s:g} s: {seen}")


@pytest.mark.parametrize("way", ["small", "blocking"])
def test_a_slow_server_is_spared(servers: list[ServerProcess], way: str) -> None:
    """Its share is below a third of that of the others within 5 s; before, they had about the same."""
    with load(python_load(listed(servers), way)) as calls:
        first_s(servers, 1, lambda own, others: own > 0.6 * others, 10.0)
        servers[1].slow()
        took_s, found = first_s(servers, 1, lambda own, others: own < others / 3, 5.0)
        outcome = calls.end()
    print(f"{way}: spared after {took_s:.1f} s, shares {[round(one, 3) for one in found]}, {outcome.answered} answers")

    assert outcome[1:] == (0, 0, "")


@pytest.mark.parametrize("way", ["small", "blocking", "large", "map"])
def test_a_server_that_is_killed(servers: list[ServerProcess], way: str) -> None:
    """No wrong answer, none that fails; whole again within 10 s of its return."""
    with load(python_load(listed(servers), way)) as calls:
        servers[1].kill()
        servers[1].start()
        returned = ""
        if way in ("small", "blocking"):  # a stream stays where it is
            took_s, found = first_s(servers, 1, lambda own, others: own > others / 2, 10.0)
            returned = f", whole {took_s:.1f} s after its return: {[round(one, 3) for one in found]}"
        outcome = calls.end()
    print(f"{way}: {outcome.answered} answers{returned}")

    assert outcome[1:] == (0, 0, "")


def roll(servers: list[ServerProcess]) -> None:
    for server in servers:
        assert server.end() == 0
        server.start()


@pytest.mark.parametrize("way", ["small", "blocking", "large", "map"])
def test_a_rolling_restart(servers: list[ServerProcess], way: str) -> None:
    """All of them, one after the other: nothing fails."""
    with load(python_load(listed(servers), way)) as calls:
        roll(servers)
        outcome = calls.end()
    print(f"{way}: {outcome.answered} answers")

    assert outcome[1:] == (0, 0, "")


def test_a_rolling_restart_of_a_node_client(servers: list[ServerProcess]) -> None:
    """With gRPC's own library and the service config of the page, without what grpc-js does not bear: nothing fails."""
    if shutil.which("node") is None or not (NODE / "node_modules/@grpc/grpc-js").is_dir():
        pytest.skip("no grpc-js here: make test-interop brings it")
    logits = np.random.default_rng(7).normal(size=(8, 16)).astype(np.float32)
    call = build("cross_entropy", logits, np.arange(8))
    with lossd.Client(servers[0].address) as client:
        loss = np.asarray(client.cross_entropy(logits, np.arange(8)).loss, np.float32)
    expected = loss.tobytes().hex()
    config = json.loads((ROOT / "docs/service-config.json").read_text(encoding="utf-8"))
    config["loadBalancingConfig"] = [{"round_robin": {}}]
    body = base64.b64encode(call.body()).decode()
    target = f"ipv4:{listed(servers)}"
    os.environ["NODE_CLIENT"] = str(NODE)
    with load(["node", "load_of_node.js", target, json.dumps(config), body, expected]) as calls:
        roll(servers)
        outcome = calls.end()
    print(f"node: {outcome.answered} answers")

    assert outcome[1:] == (0, 0, "")
