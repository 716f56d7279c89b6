"""The table of losses against the service's descriptor."""

from __future__ import annotations

from lossd.v1 import service_pb2
from lossd_server import losses

NO_LOSS = {"Stream", "GetServerInfo"}


def test_every_rpc_of_the_service_is_in_the_table_once() -> None:
    """The losses served are the service's unary RPCs, GetServerInfo apart."""
    rpcs = set(service_pb2.DESCRIPTOR.services_by_name["LossService"].methods_by_name) - NO_LOSS

    assert set(losses.SERVED) == rpcs
