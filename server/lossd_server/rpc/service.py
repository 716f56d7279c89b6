"""LossService on the wire: every unary RPC pulls its own message, and every error leaves through one door."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterable, Awaitable, Callable
from functools import partial
from typing import NoReturn

import grpc
import grpc.aio

from lossd.v1 import service_pb2
from lossd_server.admission.byte_budget import Admission
from lossd_server.backends import Backend
from lossd_server.config.settings import Settings
from lossd_server.engine.worker import Worker
from lossd_server.errors import DeadlineOver, ServerError
from lossd_server.fast_path.plan import Plan, plan_of
from lossd_server.fast_path.recall import Recall, Recalled
from lossd_server.jobs.job import Job
from lossd_server.metrics import EvaluationCounts
from lossd_server.rpc.request_body import BodyReader
from lossd_server.rpc.server_info import ServerInfoReply
from lossd_server.rpc.unary_call import UnaryCall
from lossd_server.shared_memory.registry import RegionRegistry
from lossd_server.streaming.desk import Desk, going_away, require_fits
from lossd_server.streaming.stream import Streams
from lossd_server.wire import codec, metadata, status
from lossd_server.wire.metadata import Context
from lossd_server.wire.status import told

SERVICE = "lossd.v1.LossService"

log = logging.getLogger(__name__)

Handler = Callable[[AsyncIterable[bytes], Context], Awaitable[bytes]]


class LossService:
    """Everything here runs on the event loop's thread."""

    def __init__(
        self,
        settings: Settings,
        backend: Backend,
        admission: Admission,
        worker: Worker,
        info: ServerInfoReply,
        tally: EvaluationCounts,
        regions: RegionRegistry,
    ) -> None:
        self._settings = settings
        self._admission = admission
        self._worker = worker
        self._info = info
        self._tally = tally
        self._bodies = BodyReader(admission)
        self._recall = Recall(regions.job, partial(plan_of, backend))
        self._regions = regions
        self._calls: set[UnaryCall] = set()
        self._closing = False
        self._idle = asyncio.Event()  # set when the last call has ended while closing
        self._idle.set()
        desk = Desk(
            recall=self._recall.check,
            check=regions.job,
            resolve=regions.resolve,
            submit=worker.submit_all,
            tally=tally,
            max_message_bytes=admission.max_message_bytes,
            max_deadline_s=settings.max_deadline_s,
        )
        self._streams = Streams(
            admission, desk, settings.max_stream_idle_s, self._refuse, lambda context: metadata.sizes(context)[1]
        )

    def handler(self) -> grpc.GenericRpcHandler:
        """One generic handler: core keeps a pending accept for it, and not one for each method."""
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {}
        for rpc in service_pb2.DESCRIPTOR.services_by_name["LossService"].methods_by_name:
            if rpc == "Stream":
                handlers[rpc] = grpc.stream_stream_rpc_method_handler(self._streams.handle)
            elif rpc == "GetServerInfo":
                handlers[rpc] = grpc.stream_unary_rpc_method_handler(self._server_info)
            else:
                handlers[rpc] = grpc.stream_unary_rpc_method_handler(self._evaluation(rpc))
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    async def drain(self, timeout_s: float) -> bool:
        """Refuses new calls from now on, and waits for the accepted ones. False where some are left in the end."""
        self._closing = True
        if self._calls:
            self._idle.clear()
        try:
            await asyncio.wait_for(asyncio.gather(self._idle.wait(), self._streams.drain()), timeout_s)
        except TimeoutError:
            return False
        return True

    def expire(self, now: float) -> None:
        """Gives up the calls whose time is over at `now`, on time.monotonic. For a timer to call."""
        for call in [call for call in self._calls if call.until <= now]:
            call.expire()
        self._streams.expire(now)

    def _evaluation(self, rpc: str) -> Handler:
        async def handle(_: AsyncIterable[bytes], context: Context) -> bytes:
            call = None
            try:
                call = self._open(context)
                announced, max_response_bytes = metadata.sizes(context)
                body = await self._bodies.read(call, context, announced)
                call.reading = False
                self._worker.arriving -= 1
                known = self._recall.find(rpc, body)
                answer = None if known is None else self._at_once(known.plan, body, max_response_bytes)
                if answer is None:
                    job = self._check(rpc, body, known, max_response_bytes)
                    if job.copied_bytes:
                        call.grow(self._admission, job.copied_bytes)
                    call.until = self._deadline(context)
                    call.waiting = self._worker.submit(job, call.until)
                    del job, body  # the worker lets go of them first
                    answer = await call.waiting.reply
                call.until = float("inf")
                self._tally.completed += 1
                return answer
            except asyncio.CancelledError:
                if call is None:
                    raise
                if call.waiting is not None:
                    call.waiting.abandon()
                if not call.expired:
                    raise
                call.task.uncancel()
                await self._refuse(rpc, context, self._time_over(call))
            except Exception as error:
                await self._refuse(rpc, context, error)

        return handle

    async def _server_info(self, _: AsyncIterable[bytes], context: Context) -> bytes:
        """Exempt from admission: its message says nothing and is not read."""
        return self._info.response()

    def _open(self, context: Context) -> UnaryCall:
        """Registers the call that runs this; it is forgotten when its answer is written."""
        if self._closing:
            raise going_away()
        task = asyncio.current_task()
        assert task is not None
        call = UnaryCall(task, time.monotonic() + self._settings.max_body_s)
        self._calls.add(call)
        self._worker.arriving += 1

        def close(_: object) -> None:
            self._calls.discard(call)
            if call.reading:
                self._worker.arriving -= 1
            call.release(self._admission)
            self._bodies.wake()
            self._streams.wake()
            if self._closing and not self._calls:
                self._idle.set()

        task.add_done_callback(close)
        return call

    def _at_once(self, plan: Plan | None, body: bytes, max_response_bytes: int | None) -> bytes | None:
        """The answer of a small request that has a plan, without waiting: its deadline is core's affair."""
        if plan is None or (max_response_bytes is not None and plan.response_bytes > max_response_bytes):
            return None
        answer = plan.answer(body)
        if answer is not None:
            self._worker.batches += 1
            self._worker.rows += plan.rows
        return answer

    def _check(self, rpc: str, body: bytes, known: Recalled | None, max_response_bytes: int | None) -> Job:
        """The validated job, if its answer fits."""
        if known is not None:
            job = known.again(body)
        elif len(body) < codec.LARGE_BYTES:
            job = self._recall.check(rpc, codec.decode(rpc, body))
        else:
            job = self._regions.job(rpc, codec.decode_fields(rpc, body))
        require_fits(codec.response_bytes(job), self._admission.max_message_bytes, max_response_bytes)
        return job

    def _deadline(self, context: Context) -> float:
        """On time.monotonic: the caller's, but no later than the server's."""
        remaining: float | None = context.time_remaining()  # None without a deadline
        most = self._settings.max_deadline_s
        return time.monotonic() + (most if remaining is None or remaining > most else remaining)

    def _time_over(self, call: UnaryCall) -> DeadlineOver:
        if call.waiting is None:
            bound = self._settings.max_body_s
            return DeadlineOver(
                f"the message was not there after {bound} s", reason="BODY_TIMEOUT", metadata={"max_body_s": bound}
            )
        return DeadlineOver("the call's time is over", reason="DEADLINE_EXCEEDED")

    async def _refuse(self, rpc: str, context: Context, error: Exception) -> NoReturn:
        """The one door: nothing but a ServerError's own words reaches the wire."""
        self._tally.failed += 1
        if isinstance(error, ServerError) and log.isEnabledFor(logging.DEBUG):
            log.debug("refused", extra={"rpc": rpc, "peer": context.peer(), "reason": error.reason})
        error = told(rpc, error)
        error.__traceback__ = None  # its frames hold the request, and the abort's cycle would hold them
        await context.abort(status.status_code(error), status.status_message(error), status.trailers(error))
