"""Route: a call with the way it takes. In blocks, or whole, with its tensors in the message or in shared memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossd.errors import InvalidArgument, Unavailable
from lossd.options import Progress, Transport
from lossd.request.build import Call
from lossd.routing import choose_transport
from lossd.routing.block_plan import BlockPlan
from lossd.routing.mean_denominator import MeanDenominator, mean_denominator
from lossd.rpc.server_limits import limits as limits_of
from lossd.shared_memory.session import SharedCall, SharedMemorySession, is_lost, may_go_otherwise
from lossd.v1 import service_pb2

if TYPE_CHECKING:
    from lossd.shared_memory.arena import Arena

# Times that a call looks for regions which the server knows: then it goes without.
MOST_LOST = 2


@dataclass(frozen=True, slots=True)
class Route:
    """call: as it is sent. cut: its blocks, None where it is whole. borrowed: its memory, where it is shared.

    denominator: of its mean, where that is told before the blocks.
    """

    call: Call
    cut: BlockPlan | None = None
    borrowed: SharedCall | None = None
    denominator: MeanDenominator | None = None

    def ended(self, error: BaseException | None) -> None:
        """Gives shared memory back, or up: after an error the server may still be writing there."""
        if self.borrowed is None:
            return
        if error is None or (isinstance(error, InvalidArgument) and not is_lost(error)):
            self.borrowed.release(refused=error is not None)
        else:
            self.borrowed.discard()

    def is_lost(self, error: BaseException) -> bool:
        """Whether the call failed because the server does not know its memory."""
        return self.borrowed is not None and is_lost(error)

    @property
    def regions(self) -> Arena | None:
        """Where its memory lies, where it is shared."""
        return None if self.borrowed is None else self.borrowed.regions

    @property
    def copies_back(self) -> bool:
        """Whether gradients are copied from where they landed to the caller's arrays."""
        return any(one.landed is not None and one.landed is not one.memory for one in self.call.out.values())

    @property
    def original(self) -> Call:
        """The call as it was built."""
        return self.call if self.borrowed is None else self.borrowed.original


def route(
    call: Call,
    asked: Transport,
    server: service_pb2.GetServerInfoResponse,
    sharing: SharedMemorySession,
    max_response_bytes: int,
    lost: int = 0,
) -> Route:
    """The call's way. lost: how often its shared memory was unknown to the server.

    Copies what is to be shared, and reads all targets where a stream must tell their denominator first.
    Raises an Error that `is_lost` where the server that the memory was shared with is gone; Unavailable where shared
    memory was asked for and why there is none may pass.
    """
    call = call.checked()
    limits = limits_of(server, max_response_bytes)
    regions, why_not, passing = None, None, False
    if asked in ("auto", "shared_memory"):
        regions, why_not = sharing.open(server)
        passing = sharing.may_pass
    if lost >= MOST_LOST:
        regions, why_not, passing = None, "the server does not know this client's memory", True
    if asked == "shared_memory" and regions is None and passing:
        raise Unavailable(f"no shared memory with the server: {why_not}", reason="SHARED_MEMORY_NOT_REACHED")
    while True:
        way = choose_transport.choose_transport(asked, call, limits, why_not if regions is None else None)
        if way == "unary":
            return Route(call)
        if way != "shared_memory":
            return Route(call, cut=way, denominator=mean_denominator(call, way))
        assert regions is not None
        try:
            borrowed = SharedCall(call, regions)
        except Exception as error:
            if asked == "shared_memory" or not may_go_otherwise(error) or is_lost(error):
                raise
            regions, why_not = None, str(error)
        else:
            return Route(borrowed.call, borrowed=borrowed)


def report_finished(call: Call, progress: Progress | None) -> None:
    """All items of a call that went whole are done."""
    if progress is not None:
        shape = call.operands["input"].shape
        items = shape[0] if shape else 1
        progress(items, items)
