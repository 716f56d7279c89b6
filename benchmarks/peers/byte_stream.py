"""A bare gRPC byte stream: messages of 1 to 4 MiB one way, a byte back at the end. What gRPC from Python can carry.

    PYTHONPATH=benchmarks python -m peers.byte_stream serve sync|aio
    PYTHONPATH=benchmarks python -m peers.byte_stream send SYNC_ADDRESS AIO_ADDRESS

No (de)serialisers on either side. The sender's message is made before the clock starts, one for all, so it stays in the
cache and no array is read; with `array` each is copied out of an array of that size first, as who has an array must.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

import grpc

from peers.worker import answer

PATH = "/bare.Bytes/Send"
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.so_reuseport", 0),
    ("grpc.compression_enabled_algorithms_bitset", 1),
]


class Handler(grpc.GenericRpcHandler):
    def __init__(self, handle: Any) -> None:
        self._handler: Any = grpc.stream_unary_rpc_method_handler(handle)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._handler


def take(messages: Iterator[bytes], context: Any) -> bytes:
    return str(sum(len(message) for message in messages)).encode()


async def take_aio(messages: AsyncIterator[bytes], context: Any) -> bytes:
    return str(sum([len(message) async for message in messages])).encode()


def serve() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    server = grpc.server(ThreadPoolExecutor(1), options=OPTIONS)
    server.add_generic_rpc_handlers((Handler(take),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


async def serve_aio() -> None:
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((Handler(take_aio),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    await server.stop(None)


class Copied:
    """Messages that are copied out of an array when they are sent."""

    def __init__(self, array: memoryview, message_bytes: int) -> None:
        self._array = array
        self._message_bytes = message_bytes

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self._array), self._message_bytes):
            yield bytes(self._array[start : start + self._message_bytes])


class Sender:
    def __init__(self, addresses: dict[str, str]) -> None:
        self._addresses = addresses

    def send(self, nbytes: int, way: str, message_bytes: int, times: int, array: bool = False) -> list[float]:
        """Seconds of each of `times` streams of `nbytes`. way: "sync" or "aio", on both sides."""
        whole, rest = divmod(nbytes, message_bytes)
        messages: Iterable[bytes] = [bytes(message_bytes)] * whole + ([bytes(rest)] if rest else [])
        if array:
            messages = Copied(memoryview(b"\1" * nbytes), message_bytes)
        if way == "aio":
            found = asyncio.run(self._send_aio(messages, times))
        else:
            found = self._send(messages, times)
        if any(int(got) != nbytes for _, got in found):
            raise ValueError("bytes were lost")
        return [seconds for seconds, _ in found]

    def _send(self, messages: Iterable[bytes], times: int) -> list[tuple[float, bytes]]:
        found = []
        with grpc.insecure_channel(self._addresses["sync"], options=OPTIONS) as channel:
            call: Any = channel.stream_unary(PATH)
            call(iter([b""]))
            for _ in range(times):
                start = perf_counter()
                got = call(iter(messages))
                found.append((perf_counter() - start, got))
        return found

    async def _send_aio(self, messages: Iterable[bytes], times: int) -> list[tuple[float, bytes]]:
        found = []
        async with grpc.aio.insecure_channel(self._addresses["aio"], options=OPTIONS) as channel:
            method: Any = channel.stream_unary(PATH)
            await method(iter([b""]))
            for _ in range(times):
                start = perf_counter()
                call = method()
                for message in messages:
                    await call.write(message)
                await call.done_writing()
                got = await call
                found.append((perf_counter() - start, got))
        return found


if __name__ == "__main__":
    if sys.argv[1] == "send":
        it = Sender({"sync": sys.argv[2], "aio": sys.argv[3]})
        answer({"send": it.send})
    elif sys.argv[2] == "sync":
        serve()
    else:
        asyncio.run(serve_aio())
