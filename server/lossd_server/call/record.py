"""Record of a call: how much came and left, how long its work took, how it ended. Made where somebody looks on."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic_ns
from typing import NamedTuple, Protocol

# Jobs of one call whose times are kept one by one; a stream may have any number.
MOST_WORK = 64


class WorkTimes(NamedTuple):
    """One job of a call: in line, begun, computed, its answer begun to be written and written, on time.monotonic_ns.

    loss: the RPC that computes it, "" for several. rows: elements for elementwise losses. batch_requests, batch_rows:
    of all that was computed with it, where that is known. at_once: found, computed and written in one step.
    """

    loss: str
    rows: int
    queued_ns: int
    started_ns: int
    computed_ns: int
    encoding_ns: int
    written_ns: int
    batch_requests: int = 0
    batch_rows: int = 0
    at_once: bool = False


class NamedCall(Protocol):
    """A call, as far as it has an id."""

    @property
    def request_id(self) -> str: ...


class CallRecord:
    """One call's. Its work may be noted by any thread.

    known: whether its method is one of the server's. identity: the caller's name, or "". code: gRPC's number. failed:
    evaluations of a stream that failed alone; reason: the call's, or the first of theirs. queue_ns, compute_ns, rows:
    of all its work; `work` has the first.
    """

    __slots__ = (
        "_named", "began_ns", "code", "compute_ns", "ended_ns", "failed", "identity", "known", "metadata", "method",
        "peer", "queue_ns", "reason", "request_bytes", "response_bytes", "rows", "work", "work_count",
    )  # fmt: skip

    def __init__(
        self,
        method: str,
        metadata: Sequence[tuple[str, str | bytes]],
        peer: str,
        named: NamedCall,
        began_ns: int,
        known: bool = True,
    ) -> None:
        self.method = method
        self.metadata = metadata
        self.peer = peer
        self._named = named
        self.began_ns = began_ns
        self.known = known
        self.ended_ns = 0
        self.identity = ""
        self.code = 0
        self.reason = ""
        self.request_bytes = self.response_bytes = 0
        self.failed = 0
        self.queue_ns = self.compute_ns = 0
        self.work: list[WorkTimes] = []
        self.work_count = self.rows = 0

    @property
    def request_id(self) -> str:
        """The call's, which is made when it is first asked for."""
        return self._named.request_id

    def worked(self, times: WorkTimes) -> None:
        """A job of its has its answer."""
        self.queue_ns += times.started_ns - times.queued_ns
        self.compute_ns += times.computed_ns - times.started_ns
        self.work_count += 1
        self.rows += times.rows
        if len(self.work) < MOST_WORK:
            self.work.append(times)

    def answered_at_once(self, loss: str, rows: int, began_ns: int) -> None:
        """The same of what was found, computed and written in one step, which ends now."""
        now_ns = monotonic_ns()
        self.worked(WorkTimes(loss, rows, began_ns, began_ns, now_ns, now_ns, now_ns, at_once=True))

    def evaluation_failed(self, reason: str) -> None:
        """One of its evaluations failed alone."""
        self.failed += 1
        self.reason = self.reason or reason

    def ended(self, code: int, reason: str, identity: str) -> None:
        """How and when the call ended."""
        self.ended_ns = monotonic_ns()
        self.code = code
        self.reason = reason or self.reason
        self.identity = identity
