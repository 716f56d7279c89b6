"""The application's arguments reach its servers; more of them come as they are busy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import lossd
from tests.credentials import Pki
from tests.ray.conftest import Cluster, cluster
from tests.scale.load import load, python_load
from tests.waiting import until


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    found = Pki(Path(tmp_path_factory.mktemp("certificates")))
    found.renew()
    return found


@pytest.fixture(scope="module")
def secured(pki: Pki) -> Iterator[Cluster]:
    """TLS without a certificate for who asks its health, other limits, and up to two replicas."""
    arguments = {**pki.serving, "listen": "127.0.0.1:0", "max_message_bytes": "4MiB", "max_replicas": 2}
    # Far above what a server at rest does, and below what one client has it do.
    with cluster(**arguments, target_utilization=0.05) as found:
        yield found


def test_settings_are_those_of_lossd_serve(secured: Cluster, pki: Pki) -> None:
    """TLS and limits; Serve found it healthy, or it would not have begun."""
    with lossd.Client(secured.address, **pki.trusting) as client:
        assert client.info().limits.max_message_bytes == 4 << 20
        assert float(client.cross_entropy(np.zeros((2, 4)), [0, 1])) == pytest.approx(np.log(4))
    with lossd.Client(secured.address, connect_timeout=1.0) as client, pytest.raises(lossd.Unavailable):
        client.info()


def test_more_come_when_it_is_busy(secured: Cluster, pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the utilisation that each records: Serve itself sees none of the calls."""
    monkeypatch.setenv("LOSSD_CA", pki.ca_pem)
    assert len(secured.tell("replicas")) == 1
    with load(python_load(secured.address, "small")) as calls:
        until(lambda: len(secured.servers()) == 2, "a second replica")
        outcome = calls.end()
    print(f"busy: {outcome.answered} answers")

    assert outcome[1:] == (0, 0, "")
