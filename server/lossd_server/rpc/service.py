"""LossService: every unary RPC pulls its own message, and GetServerInfo; Stream is in `streaming`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from lossd.v1 import service_pb2
from lossd_server.admission.byte_budget import Admission
from lossd_server.call.contract import Body, Message, ServerCall, WholeCall
from lossd_server.config.settings import Settings
from lossd_server.engine.worker import Worker
from lossd_server.errors import InvalidRequest
from lossd_server.fast_path.burst import address_of_bytes
from lossd_server.intake.intake import Intake
from lossd_server.rpc.dispatch import Dispatcher, ServiceMethod
from lossd_server.rpc.evaluations import CheckedRequest, UnaryEvaluations
from lossd_server.rpc.server_info import ServerInfoReply
from lossd_server.rpc.small_calls import SmallCalls
from lossd_server.streaming.session import Session
from lossd_server.streaming.stream import Streams
from lossd_server.wire import codec, metadata

SERVICE = "lossd.v1.LossService"
# A burst of calls ends once it takes so long: others wait for the loop.
MOST_BURST_NS = 300_000.0


class Translated(NamedTuple):
    """A message of another service as a request of ours, and what makes that service's answer of our response."""

    rpc: str
    request: bytes
    answer: Callable[[bytes], bytes]


# Takes a message and the largest answer that its client takes. None where nothing like it came before.
Translate = Callable[[bytes, int | None], Translated | None]


class LossService:
    """Everything here runs on the event loop's thread. evaluations, streams: of this service and of others.

    translations: by the path of another service's method, for `answer_at_once`.
    """

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
        self._intake = intake
        self._info = info
        self._small = small
        self.evaluations = UnaryEvaluations(settings, admission, worker, intake, self._wake)
        self.translations: dict[str, Translate] = {}
        self._rpcs = {f"/{SERVICE}/{rpc}": rpc for rpc in codec.METHODS}
        self.streams = Streams(admission, intake, settings.max_stream_idle_s, self.evaluations.wake)

    def add_to(self, dispatcher: Dispatcher) -> None:
        dispatcher.at_once = self.answer_at_once
        for rpc in service_pb2.DESCRIPTOR.services_by_name["LossService"].methods_by_name:
            if rpc == "Stream":
                dispatcher.add(SERVICE, rpc, partial(self.streams.handle, rpc, Session), streams=True)
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
        planned, finishes = [], []
        cost_ns = 0.0
        for place, call in enumerate(calls):
            if cost_ns >= MOST_BURST_NS:
                del found[place:]
                break
            message = request = call.message
            rpc, finish = self._rpcs.get(call.method, ""), None
            if not rpc and call.method not in self.translations:
                continue
            try:
                announced, most = metadata.remembered_sizes(tuple(call.metadata))
            except InvalidRequest:
                continue
            if not rpc:
                translated = self.translations[call.method](message, most)
                if translated is None:
                    continue
                rpc, request, finish = translated
            known = intake.recalled(rpc, request)
            plan = None if known is None else intake.plan(known, most)
            if plan is not None and (announced is None or announced >= len(message)):
                cost_ns += plan.cost_ns
                planned.append((plan, address_of_bytes(request)))
                finishes.append((place, request, finish))  # with the request, whose address is used
        if planned:
            answers = intake.answer_at_once(planned)
            for (place, _, finish), answer in zip(finishes, answers, strict=True):
                found[place] = answer if answer is None or finish is None else finish(answer)
        return found

    async def drain(self, timeout_s: float) -> bool:
        """Refuses new calls from now on, and waits for the accepted ones. False where some are left in the end."""
        self._intake.closing = True
        try:
            await asyncio.wait_for(asyncio.gather(self.evaluations.drain(), self.streams.drain()), timeout_s)
        except TimeoutError:
            return False
        return True

    def expire(self, now: float) -> None:
        """Gives up the calls whose time is over at `now`, on time.monotonic. For a timer to call."""
        self.evaluations.expire(now)
        self.streams.expire(now)

    def _evaluation(self, rpc: str) -> ServiceMethod:
        def read(body: Body, max_response_bytes: int | None) -> CheckedRequest | Message:
            return self._read(rpc, body, max_response_bytes)

        async def answer(source: ServerCall) -> Message:
            return await self.evaluations.evaluate(rpc, source, read)

        return answer

    def _read(self, rpc: str, body: Body, max_response_bytes: int | None) -> CheckedRequest | Message:
        intake, known = self._intake, None
        if isinstance(body, bytes):
            known = intake.recalled(rpc, body)
            plan = None if known is None else intake.plan(known, max_response_bytes)
            if plan is not None:
                (small,) = intake.answer_at_once([(plan, address_of_bytes(body))])
                if small is not None:
                    return small
        job = intake.check_body(rpc, body, known)
        return CheckedRequest(job, codec.response_bytes(job))

    def _wake(self) -> None:
        """Something was given back: whoever waits for it has another look."""
        self.evaluations.wake()
        self.streams.wake()

    async def _server_info(self, call: ServerCall) -> bytes:
        """Exempt from admission: its message says nothing and is not read."""
        return self._info.response(call.peer)
