"""Server information: what a server says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lossd.request.tensors import NAMES
from lossd.v1 import service_pb2


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """What this caller may have by itself, on all of its connections together. 0: no limit of its own.

    name: as the server knows it: from its token or certificate, or its host where the server asks nobody.
    """

    name: str
    max_inflight_requests: int
    max_inflight_bytes: int
    max_streams: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes are of serialised messages; max_deadline_s is when the server gives a call up, whatever its deadline.

    max_shared_memory_bytes: all regions together, 0 where the server takes none. max_connection_age_s: 0 for any age.
    An older server tells 0 of what it does not know.
    """

    max_message_bytes: int
    max_inflight_bytes: int
    max_inflight_requests: int
    max_rank: int
    max_item_bytes: int
    max_deadline_s: float
    max_shared_memory_bytes: int
    max_admission_wait_s: float
    max_body_s: float
    max_stream_idle_s: float
    max_streams: int
    max_connections: int
    max_connection_idle_s: float
    max_connection_age_s: float
    drain_s: float
    caller: CallerLimits


@dataclass(frozen=True, slots=True)
class Statistics:
    """Since the server started; `inflight_` and `utilization` are now.

    utilization: of what it can do, the mean of its workers: 1 where no more fits, above while calls wait.
    """

    uptime_s: float
    completed: int
    failed: int
    batches: int
    rows: int
    inflight_bytes: int
    inflight_requests: int
    utilization: float


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
        limits=Limits(**{name: _limit(limits, name) for name in Limits.__slots__}),
        shared_memory_socket=message.shared_memory_socket,
        elementwise_granularity=message.elementwise_granularity,
        statistics=Statistics(**{name: getattr(statistics, name) for name in Statistics.__slots__}),
        workers=message.workers or 1,  # a server that says nothing is one
    )


def _limit(limits: service_pb2.Limits, name: str) -> Any:
    value = getattr(limits, name)
    return CallerLimits(**{of: getattr(value, of) for of in CallerLimits.__slots__}) if name == "caller" else value
