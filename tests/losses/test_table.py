"""The table of losses against the service's descriptor."""

from __future__ import annotations

import pytest

from lossd.v1 import service_pb2
from lossd_server import codec, losses
from lossd_server.errors import NotServed

NO_LOSS = {"Stream", "GetServerInfo"}


def test_every_rpc_of_the_service_is_in_the_table_once() -> None:
    """The losses served and those to come are the service's unary RPCs, GetServerInfo apart."""
    rpcs = set(service_pb2.DESCRIPTOR.services_by_name["LossService"].methods_by_name) - NO_LOSS

    assert set(losses.SERVED) | losses.LATER == rpcs
    assert not set(losses.SERVED) & losses.LATER


@pytest.mark.parametrize("rpc", sorted(losses.LATER))
def test_a_loss_to_come_is_not_served(rpc: str) -> None:
    """An RPC that this server does not answer yet says so, whatever its message holds."""
    with pytest.raises(NotServed, match=f"^{rpc} is not served"):
        losses.check(rpc, codec.decode(rpc, b""))
