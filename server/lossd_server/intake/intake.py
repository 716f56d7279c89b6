"""Intake of requests: check, does the answer fit, deadline, submit, refuse. For unary calls and streams alike."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from lossd_server.backends import Backend
from lossd_server.call.contract import Body
from lossd_server.call.record import NamedCall
from lossd_server.config.settings import Settings
from lossd_server.engine.batch_counts import BatchCounts
from lossd_server.engine.batcher import Waiting
from lossd_server.engine.worker import Worker
from lossd_server.errors import GoingAway, Overloaded, ServerError, TooLarge
from lossd_server.fast_path.burst import Burst, Planned
from lossd_server.fast_path.plan import Plan, plan_of
from lossd_server.fast_path.recall import Recall, Recalled
from lossd_server.jobs.job import Job
from lossd_server.metrics.worker_metrics import WorkerMetrics
from lossd_server.shared_memory.registry import RegionRegistry
from lossd_server.tensors.request_fields import Fields
from lossd_server.wire import codec
from lossd_server.wire.status import told

GOING_AWAY_RETRY_S = 1.0


class Intake:
    """Of one server. closing: whether new evaluations are refused. metrics: what counts those that end."""

    def __init__(
        self,
        settings: Settings,
        backend: Backend,
        worker: Worker,
        regions: RegionRegistry,
        metrics: WorkerMetrics,
    ) -> None:
        self.closing = False
        self.max_message_bytes = settings.max_message_bytes
        self.metrics = metrics
        self._max_deadline_s = settings.max_deadline_s
        self._worker = worker
        self._regions = regions
        self._recall = Recall(regions.job, partial(plan_of, backend))
        self._burst = Burst(backend, BatchCounts(metrics))

    def require_open(self) -> None:
        """Raises GoingAway once the server takes no more evaluations."""
        if self.closing:
            raise going_away()

    def recalled(self, rpc: str, body: bytes) -> Recalled | None:
        """A request like this one that was accepted before."""
        return self._recall.find(rpc, body)

    def plan(self, known: Recalled, max_response_bytes: int | None) -> Plan | None:
        """How a request that was recalled is answered here and now; None where it has to be submitted."""
        plan = known.plan
        if plan is None or (max_response_bytes is not None and plan.response_bytes > max_response_bytes):
            return None
        return plan

    def rows_of(self, rpc: str, body: Body) -> int:
        """Rows of a request that has a plan, elements for elementwise losses; 0 of any other."""
        known = self.recalled(rpc, body) if isinstance(body, bytes) else None
        return 0 if known is None or known.plan is None else known.plan.rows

    def answer_at_once(self, planned: Sequence[Planned]) -> list[bytes | None]:
        """The responses to requests that have a plan, counted; None for those that have to be submitted."""
        return self._burst.answer(planned)

    def check_body(self, rpc: str, body: Body, known: Recalled | None = None) -> Job:
        """The validated job of a request. known: what was recalled of its bytes. Raises InvalidRequest, NotServed."""
        if known is not None:
            return known.again(body)
        if len(body) < codec.LARGE_BYTES:
            return self._recall.check(rpc, codec.decode(rpc, body))
        return self.check_fields(rpc, codec.decode_fields(rpc, body))

    def check_message(self, rpc: str, request: Any) -> Job:
        """The same of a small request that is a message already."""
        return self._recall.check(rpc, request)

    def check_fields(self, rpc: str, fields: Fields) -> Job:
        """The same of its fields."""
        return self._regions.job(rpc, fields)

    def resolve(self, fields: Fields) -> Fields:
        """The fields with their shared memory looked up. Raises as `RegionRegistry.resolve`."""
        return self._regions.resolve(fields)

    def require_fits(self, size: int, max_response_bytes: int | None) -> None:
        """Raises TooLarge where an answer of `size` bytes is more than this server sends, or than the client takes."""
        theirs = max_response_bytes is not None and max_response_bytes <= self.max_message_bytes
        bound = max_response_bytes if theirs else self.max_message_bytes
        assert bound is not None
        if size > bound:
            raise TooLarge(
                f"the answer would have {size} bytes, {'the client takes' if theirs else 'this server sends'} {bound}:"
                " ask for fewer rows or gradients at a time",
                reason="RESPONSE_TOO_LARGE",
                metadata={"size_bytes": size, "max_response_bytes": bound},
            )

    def deadline(self, until: float, now: float) -> float:
        """The caller's `until`, but no later than the server allows; both on time.monotonic."""
        return min(until, now + self._max_deadline_s)

    def submit(self, line: Sequence[Waiting[Any]]) -> None:
        """Puts jobs in line together."""
        self._worker.submit_all(line)

    def refused(self, rpc: str, error: Exception, call: NamedCall, loss: str = "") -> ServerError:
        """Counts an evaluation that fails with `error`, which ends its `call`; what its caller is told."""
        self.metrics.failed(loss)
        return told(rpc, error, call)

    def failed_alone(self, rpc: str, error: Exception, call: NamedCall, loss: str = "") -> ServerError:
        """The same of one that fails alone, in a stream that goes on."""
        said = self.refused(rpc, error, call, loss)
        self.metrics.refused(said.reason, isinstance(said, Overloaded))
        return said


def going_away() -> GoingAway:
    return GoingAway("the server is going away", reason="GOING_AWAY", retry_after_s=GOING_AWAY_RETRY_S)
