"""Server information: what a server says of itself."""

from __future__ import annotations

from dataclasses import dataclass

from lossd.request.tensors import NAMES
from lossd.v1 import service_pb2


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes are of serialised messages; max_deadline_s is when the server gives a call up, whatever its deadline.

    max_shared_memory_bytes: all regions together, 0 where the server takes none.
    """

    max_message_bytes: int
    max_inflight_bytes: int
    max_inflight_requests: int
    max_rank: int
    max_item_bytes: int
    max_deadline_s: float
    max_shared_memory_bytes: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """Since the server started; `inflight_` is now."""

    uptime_s: float
    completed: int
    failed: int
    batches: int
    rows: int
    inflight_bytes: int
    inflight_requests: int


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """dtypes: those taken as an input. losses: the RPCs that are answered. backends: the one in use first.

    workers: server processes behind the address.
    """

    version: str
    instance_id: str
    device: str
    backends: tuple[str, ...]
    dtypes: tuple[str, ...]
    losses: tuple[str, ...]
    limits: Limits
    shared_memory_socket: str
    elementwise_granularity: int
    statistics: Statistics
    workers: int


def read_info(message: service_pb2.GetServerInfoResponse) -> ServerInfo:
    limits, statistics = message.limits, message.statistics
    return ServerInfo(
        version=message.version,
        instance_id=message.instance_id,
        device=message.device,
        backends=tuple(message.backends),
        # A newer server may know dtypes that this client has no name for.
        dtypes=tuple(NAMES.get(dtype, str(dtype)) for dtype in message.dtypes),
        losses=tuple(message.losses),
        limits=Limits(**{name: getattr(limits, name) for name in Limits.__slots__}),
        shared_memory_socket=message.shared_memory_socket,
        elementwise_granularity=message.elementwise_granularity,
        statistics=Statistics(**{name: getattr(statistics, name) for name in Statistics.__slots__}),
        workers=message.workers or 1,  # a server that says nothing is one
    )
