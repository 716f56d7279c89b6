"""Message limits that steer how a call is sent: the server's, and this client's own of an answer."""

from __future__ import annotations

from dataclasses import dataclass

from lossd.rpc.target import UNLIMITED_BYTES
from lossd.v1 import service_pb2


@dataclass(frozen=True, slots=True)
class MessageLimits:
    """What a server takes: see `lossd.info.Limits`. max_item_bytes is 0 where it has no Stream.

    max_message_bytes: 0 where it names none. max_response_bytes: what the client takes.
    """

    max_message_bytes: int = 0
    max_item_bytes: int = 0
    elementwise_granularity: int = 1
    max_response_bytes: int = UNLIMITED_BYTES

    @property
    def answer_bytes(self) -> int:
        """The most that an answer may have: the smaller of the server's bound and the client's."""
        return min(self.max_message_bytes or self.max_response_bytes, self.max_response_bytes)

    @property
    def client_bounds_answers(self) -> bool:
        """Whether that is the client's."""
        return self.max_response_bytes < (self.max_message_bytes or UNLIMITED_BYTES)

    @property
    def answer_bound(self) -> str:
        """That bound, in a sentence."""
        who = "this client takes" if self.client_bounds_answers else "the server sends"
        return f"{who} at most {self.answer_bytes}"


def limits(info: service_pb2.GetServerInfoResponse, max_response_bytes: int = UNLIMITED_BYTES) -> MessageLimits:
    """What the server takes, and of its answers the client."""
    return MessageLimits(
        max_message_bytes=info.limits.max_message_bytes,
        max_item_bytes=info.limits.max_item_bytes,
        elementwise_granularity=max(1, info.elementwise_granularity),
        max_response_bytes=max_response_bytes,
    )
