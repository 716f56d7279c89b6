"""LossService: every unary RPC pulls its own message, and GetServerInfo; Stream is in `streaming`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from math import inf

from lossd.v1 import service_pb2
from lossd_server.admission.byte_budget import LARGE_ANSWER_BYTES, Admission
from lossd_server.call.contract import Message, ServerCall, WholeCall
from lossd_server.config.settings import Settings
from lossd_server.engine.worker import Worker
from lossd_server.errors import DeadlineOver, InvalidRequest, ServerError
from lossd_server.fast_path.burst import address_of_bytes
from lossd_server.intake.intake import Intake
from lossd_server.rpc.dispatch import Dispatcher, ServiceMethod
from lossd_server.rpc.request_body import BodyReader
from lossd_server.rpc.server_info import ServerInfoReply
from lossd_server.rpc.small_calls import SmallCalls
from lossd_server.rpc.unary_call import UnaryCall
from lossd_server.streaming.stream import Streams
from lossd_server.wire import codec, metadata

SERVICE = "lossd.v1.LossService"
# A burst of calls ends once it takes so long: others wait for the loop.
MOST_BURST_NS = 300_000.0


class LossService:
    """Everything here runs on the event loop's thread."""

    def __init__(
        self,
        settings: Settings,
        admission: Admission,
        worker: Worker,
        intake: Intake,
        info: ServerInfoReply,
        small: SmallCalls,
    ) -> None:
        """small: bounds the calls of GetServerInfo."""
        self._settings = settings
        self._admission = admission
        self._worker = worker
        self._intake = intake
        self._info = info
        self._small = small
        self._calls: set[UnaryCall] = set()
        self._bodies = BodyReader(admission, settings.max_admission_wait_s, self._calls)
        self._idle = asyncio.Event()  # set when the last call has ended while closing
        self._idle.set()
        self._rpcs = {f"/{SERVICE}/{rpc}": rpc for rpc in codec.METHODS}
        self._streams = Streams(admission, intake, settings.max_stream_idle_s, self._bodies.wake)

    def add_to(self, dispatcher: Dispatcher) -> None:
        dispatcher.at_once = self.answer_at_once
        for rpc in service_pb2.DESCRIPTOR.services_by_name["LossService"].methods_by_name:
            if rpc == "Stream":
                dispatcher.add(SERVICE, rpc, self._streams.handle, streams=True)
            elif rpc == "GetServerInfo":
                dispatcher.add(SERVICE, rpc, self._small.bounded(self._server_info))
            else:
                dispatcher.add(SERVICE, rpc, self._evaluation(rpc))

    def answer_at_once(self, calls: Sequence[WholeCall]) -> list[bytes | None]:
        """`call.contract.AnswerAtOnce`: requests like some that were accepted before, computed together.

        They are not admitted: their messages are here already, and their answers are as good as written.
        """
        found: list[bytes | None] = [None] * len(calls)
        intake = self._intake
        if intake.closing:
            return found
        planned, places = [], []
        cost_ns = 0.0
        for place, call in enumerate(calls):
            if cost_ns >= MOST_BURST_NS:
                del found[place:]
                break
            message = call.message
            known = intake.recalled(self._rpcs.get(call.method, ""), message)
            if known is None:
                continue
            try:
                announced, most = metadata.remembered_sizes(tuple(call.metadata))
            except InvalidRequest:
                continue
            plan = intake.plan(known, most)
            if plan is not None and (announced is None or announced >= len(message)):
                cost_ns += plan.cost_ns
                planned.append((plan, address_of_bytes(message)))
                places.append(place)
        if planned:
            answers = intake.answer_at_once(planned)
            for place, answer in zip(places, answers, strict=True):
                found[place] = answer
            intake.counts.completed += len(answers) - answers.count(None)
        return found

    async def drain(self, timeout_s: float) -> bool:
        """Refuses new calls from now on, and waits for the accepted ones. False where some are left in the end."""
        self._intake.closing = True
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

    def _evaluation(self, rpc: str) -> ServiceMethod:
        async def answer(source: ServerCall) -> Message:
            call = None
            try:
                call = self._open(source)
                body = await self._evaluate(rpc, source, call)
            except asyncio.CancelledError:
                if call is None or not call.given_up():
                    raise
                raise self._intake.refused(rpc, self._time_over(call)) from None
            except Exception as error:
                raise self._intake.refused(rpc, error) from None
            self._intake.counts.completed += 1
            return body

        return answer

    async def _evaluate(self, rpc: str, source: ServerCall, call: UnaryCall) -> Message:
        intake = self._intake
        announced, max_response_bytes = metadata.sizes(source.metadata)
        await source.next_size()  # a call that sends nothing keeps no batch waiting
        call.arriving = True
        self._worker.arriving += 1
        body = await self._bodies.read(call, source, announced)
        call.reading = call.arriving = False
        self._worker.arriving -= 1
        known = None
        if isinstance(body, bytes):
            known = intake.recalled(rpc, body)
            plan = None if known is None else intake.plan(known, max_response_bytes)
            if plan is not None:
                (small,) = intake.answer_at_once([(plan, address_of_bytes(body))])
                if small is not None:
                    call.until = inf
                    return small
        job = intake.check_body(rpc, body, known)
        answer_bytes = codec.response_bytes(job)
        intake.require_fits(answer_bytes, max_response_bytes)
        self._charge(call, len(body) + job.copied_bytes, answer_bytes)
        call.until = intake.deadline(source.deadline, time.monotonic())
        call.waiting = self._worker.submit(job, call.until)
        del job, body  # the worker lets go of them first
        answer = await call.waiting.reply
        call.until = inf
        return answer

    def _charge(self, call: UnaryCall, size: int, answer_bytes: int) -> None:
        """The charge becomes what the call holds, its answer included where that is large. Raises Overloaded."""
        held = size + (answer_bytes if answer_bytes >= LARGE_ANSWER_BYTES else 0)
        if held != call.charged:
            less = held < call.charged
            call.stands_at(self._admission, held)
            if less:
                self._wake()

    def _wake(self) -> None:
        """Something was given back: whoever waits for it has another look."""
        self._bodies.wake()
        self._streams.wake()

    async def _server_info(self, _: ServerCall) -> bytes:
        """Exempt from admission: its message says nothing and is not read."""
        return self._info.response()

    def _open(self, source: ServerCall) -> UnaryCall:
        """Registers the call that runs this; it is forgotten when its answer is written."""
        self._intake.require_open()
        task = asyncio.current_task()
        assert task is not None
        call = UnaryCall(task, source, time.monotonic(), self._settings.max_body_s)
        self._calls.add(call)

        def close() -> None:
            self._calls.discard(call)
            if call.arriving:
                self._worker.arriving -= 1
            call.release(self._admission)
            self._wake()
            if self._intake.closing and not self._calls:
                self._idle.set()

        source.on_close(close)
        return call

    def _time_over(self, call: UnaryCall) -> ServerError:
        if call.error is not None:
            return call.error
        if call.waiting is None:
            bound = self._settings.max_body_s
            return DeadlineOver(
                f"the message was not there after {bound} s", reason="BODY_TIMEOUT", metadata={"max_body_s": bound}
            )
        return DeadlineOver("the call's time is over", reason="DEADLINE_EXCEEDED")
