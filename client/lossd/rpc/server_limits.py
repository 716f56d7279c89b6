"""Server limits that steer how a call is sent."""

from __future__ import annotations

from dataclasses import dataclass

from lossd.v1 import service_pb2


@dataclass(frozen=True, slots=True)
class MessageLimits:
    """What a server takes: see `lossd.info.Limits`. max_item_bytes is 0 where it has no Stream."""

    max_message_bytes: int = 0
    max_item_bytes: int = 0
    elementwise_granularity: int = 1


def limits(info: service_pb2.GetServerInfoResponse) -> MessageLimits:
    """What the server takes."""
    return MessageLimits(
        max_message_bytes=info.limits.max_message_bytes,
        max_item_bytes=info.limits.max_item_bytes,
        elementwise_granularity=max(1, info.elementwise_granularity),
    )
