"""A bare grpc.aio server: takes any message at any method, answers a fixed number of bytes. What gRPC itself costs.

    python benchmarks/echo_server.py ANSWER_BYTES

Same event loop as lossd (uvloop where it is installed), no deserialisers, no checks, no computing.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from typing import Any

import grpc

OPTIONS = [("grpc.so_reuseport", 0), ("grpc.compression_enabled_algorithms_bitset", 1)]


class Echo(grpc.GenericRpcHandler):
    """Answers every method with `answer`."""

    def __init__(self, answer: bytes) -> None:
        async def handle(request: bytes, context: Any) -> bytes:
            return answer

        self._handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(handle)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._handler


async def serve(answer: bytes) -> None:
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((Echo(answer),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    await server.stop(None)


def event_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=event_loop()) as runner:
        runner.run(serve(bytes(int(sys.argv[1]))))
