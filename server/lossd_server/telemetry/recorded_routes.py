"""Recorded routes: a record of every call, for an access log and for traces.

They stand around all others, the gate's too, so that every refusal is seen. Where nobody looks on there are none.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Protocol

from lossd_server.call.contract import (
    Body,
    Handler,
    Message,
    Metadata,
    Routes,
    RpcMethod,
    ServerCall,
    Status,
    WholeCall,
    message_bytes,
)
from lossd_server.call.identity import CALLER
from lossd_server.call.record import CallRecord
from lossd_server.call.request_id import LazyRequestId

CANCELLED, DEADLINE_EXCEEDED = 1, 4

# The name of a caller that was let in, from its call's metadata and the subject of its certificate.
NameOf = Callable[[Metadata, str], str]
# Rows of a small request of this RPC that was answered at once.
RowsOf = Callable[[str, bytes], int]


class CallSink(Protocol):
    """Takes the records of calls that have ended. every: also of those that are answered at once, which never fail."""

    @property
    def every(self) -> bool: ...

    def is_wanted(self) -> bool:
        """Whether there is anybody now who wants them."""

    def __call__(self, record: CallRecord, /) -> None: ...


class RecordedCall:
    """A call whose bytes are counted: `lossd_server.call.contract.ServerCall`, by another one."""

    def __init__(self, call: ServerCall, began_ns: int, known: bool) -> None:
        self.method = call.method
        self.metadata = call.metadata
        self.peer = call.peer
        self.record: CallRecord | None = None
        self.counted = CallRecord(call.method, call.metadata, call.peer, call, began_ns, known)
        self.record = self.counted
        self._call = call
        self.settled = False

    @property
    def deadline(self) -> float:
        return self._call.deadline

    @property
    def subject(self) -> str:
        return self._call.subject

    @property
    def messages_in(self) -> int:
        return self._call.messages_in

    @property
    def messages_out(self) -> int:
        return self._call.messages_out

    @property
    def request_id(self) -> str:
        return self._call.request_id

    @property
    def connection(self) -> Hashable:
        return self._call.connection

    async def next_size(self) -> int | None:
        return await self._call.next_size()

    async def read(self) -> Body | None:
        body = await self._call.read()
        if body is not None:
            self.counted.request_bytes += len(body)
        return body

    async def write(self, message: Message) -> None:
        await self._call.write(message)
        self.counted.response_bytes += message_bytes(message)

    def abandon(self) -> bool:
        return self._call.abandon()

    def on_close(self, callback: Callable[[], object]) -> None:
        self._call.on_close(callback)


def recorded(routes: Routes, sinks: Sequence[CallSink], name_of: NameOf, rows_of: RowsOf) -> Routes:
    """The routes, the record of each call given to the sinks when it has ended, and its answer is on its way."""

    every = any(sink.every for sink in sinks)

    def is_wanted() -> bool:
        return any(sink.is_wanted() for sink in sinks)

    def tell(record: CallRecord) -> None:
        if every or record.code or record.failed:
            asyncio.get_running_loop().call_soon(tell_now, record)

    def tell_now(record: CallRecord) -> None:
        for sink in sinks:
            if sink.is_wanted():
                sink(record)

    def refused(call: ServerCall, status: Status) -> None:
        routes.refused(call, status)
        record = CallRecord(
            call.method, call.metadata, call.peer, call, time.monotonic_ns(), call.method in routes.methods
        )
        record.ended(status.code, status.reason, "")
        tell(record)

    def watched(method: RpcMethod, known: bool = True) -> RpcMethod:
        return replace(method, handler=_recording(method.handler, is_wanted, tell, known))

    def answer_at_once(calls: Sequence[WholeCall]) -> Sequence[bytes | None]:
        if not is_wanted():
            return routes.at_once(calls)
        began_ns = time.monotonic_ns()
        answers = routes.at_once(calls)
        for call, answer in zip(calls, answers, strict=False):
            if answer is not None:
                tell(_of_whole_call(call, answer, began_ns, name_of, rows_of))
        return answers

    return Routes(
        {path: watched(method) for path, method in routes.methods.items()},
        watched(routes.unknown, known=False),
        answer_at_once if every else routes.at_once,
        refused,
        routes.load,
    )


def _recording(
    handler: Handler, is_wanted: Callable[[], bool], tell: Callable[[CallRecord], object], known: bool
) -> Handler:
    async def handle(call: ServerCall) -> Message | Status:
        if not is_wanted():
            return await handler(call)
        seen = RecordedCall(call, time.monotonic_ns(), known)
        record = seen.counted
        try:
            answer = await handler(seen)
        except asyncio.CancelledError:  # by the client, or by the front whose call's time is over
            late = call.deadline <= time.monotonic()
            code = DEADLINE_EXCEEDED if late else 0 if seen.settled else CANCELLED
            record.ended(code, "DEADLINE_EXCEEDED" if late else "", _caller())
            tell(record)
            raise
        if isinstance(answer, Status):
            record.ended(answer.code, answer.reason, _caller())
        else:
            record.response_bytes += message_bytes(answer)
            record.ended(0, "", _caller())
        tell(record)
        return answer

    return handle


def _caller() -> str:
    """Whom the gate has let in, where it has asked: it runs in the same task."""
    identity = CALLER.get()
    return identity.name if identity is not None and identity.verified else ""


def _of_whole_call(call: WholeCall, answer: bytes, began_ns: int, name_of: NameOf, rows_of: RowsOf) -> CallRecord:
    record = CallRecord(call.method, call.metadata, call.origin.peer, LazyRequestId(call.metadata), began_ns)
    record.request_bytes, record.response_bytes = len(call.message), len(answer)
    rpc = call.method.rpartition("/")[2]
    rows = rows_of(rpc, call.message)
    record.answered_at_once(rpc if rows else "", rows, began_ns)
    record.ended(0, "", name_of(call.metadata, call.origin.subject))
    return record
