"""Interop client: grpcio's asyncio stub. `python -m tests.interop.python.asynchronous ADDRESS CASE`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import grpc.aio

from lossd.v1.service_pb2 import StreamResponse
from lossd.v1.service_pb2_grpc import LossServiceStub
from tests.interop.python import messages
from tests.interop.python.messages import HALVES, WHOLE, cross_entropy, streamed, told, told_of_stream

Case = Callable[[Any], Coroutine[Any, Any, dict[str, Any]]]


async def ended_with(call: Awaitable[Any]) -> int:
    """The status code that the call ends with."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return number(error.code())
    except asyncio.CancelledError:
        return number(grpc.StatusCode.CANCELLED)
    return 0


def number(code: Any) -> int:
    found: int = code.value[0]
    return found


async def pause() -> None:
    await asyncio.to_thread(messages.pause)


async def rest(call: Any, answers: list[StreamResponse]) -> None:
    while (answer := await call.read()) is not grpc.aio.EOF:
        answers.append(answer)


async def halves(stub: Any, timeout_s: float | None = None) -> tuple[Any, list[StreamResponse]]:
    """A streamed evaluation that stands still after its first block was answered: the call, and the answer."""
    call = stub.Stream(timeout=timeout_s)
    for message in streamed(*HALVES)[:2]:
        await call.write(message)
    return call, [await call.read()]


async def finish(call: Any, answers: list[StreamResponse]) -> dict[str, Any]:
    for message in streamed(*HALVES)[2:]:
        await call.write(message)
    await call.done_writing()
    # A server that drains may end the call once its evaluation has ended.
    code = await ended_with(rest(call, answers))
    return told_of_stream(answers, code)


async def unary(stub: Any) -> dict[str, Any]:
    return told(await stub.CrossEntropy(cross_entropy(4, 5)))


async def stream(stub: Any) -> dict[str, Any]:
    call = stub.Stream(iter(streamed(*WHOLE)))
    answers = [answer async for answer in call]
    return told_of_stream(answers, number(await call.code()))


async def error(stub: Any) -> dict[str, Any]:
    try:
        await stub.CrossEntropy(messages.wrong())
    except grpc.aio.AioRpcError as refused:
        trailers: dict[str, Any] = dict(refused.trailing_metadata())
        return messages.told_of_error(number(refused.code()), trailers["grpc-status-details-bin"])
    raise AssertionError("a wrong request was answered")


async def deadline(stub: Any) -> dict[str, Any]:
    async def wait() -> None:
        call, answers = await halves(stub, messages.DEADLINE_S)
        await rest(call, answers)

    return {"code": await ended_with(wait())}


async def cancel(stub: Any) -> dict[str, Any]:
    call, answers = await halves(stub)
    call.cancel()
    return {"code": await ended_with(rest(call, answers)), **await unary(stub)}


async def large(stub: Any) -> dict[str, Any]:
    return told(await stub.CrossEntropy(cross_entropy(4096, 1024)))


async def many(stub: Any) -> dict[str, Any]:
    request = cross_entropy(8, 16)
    answers = [told(one) for one in await asyncio.gather(*(stub.CrossEntropy(request) for _ in range(1000)))]
    return {**answers[0], "calls": len(answers), "same": all(one == answers[0] for one in answers)}


async def refusals(stub: Any) -> dict[str, Any]:
    request = cross_entropy(200, 128)
    codes = {await ended_with(stub.CrossEntropy(request)) for _ in range(messages.REFUSALS)}
    (code,) = codes
    return {"code": code, **await unary(stub)}


async def keepalive(stub: Any) -> dict[str, Any]:
    call, answers = await halves(stub)
    await pause()
    return await finish(call, answers)


async def drain(stub: Any) -> dict[str, Any]:
    call, answers = await halves(stub)
    await pause()
    finished = await finish(call, answers)
    refused = await ended_with(unary(stub))
    await pause()
    again = told(await stub.CrossEntropy(cross_entropy(4, 5), wait_for_ready=True))
    return {**finished, "refused": refused, "again": again["loss"]}


CASES: dict[str, Case] = {one.__name__: one for one in (unary, stream, error, deadline, cancel, large, many)}
CASES |= {one.__name__: one for one in (refusals, keepalive, drain)}


async def main(address: str, case: str) -> None:
    options = messages.OPTIONS + (messages.KEEPALIVE if case == "keepalive" else [])
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        messages.say(await CASES[case](LossServiceStub(channel)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
