"""Front made of grpc.aio: its server, with one handler for every method."""

from __future__ import annotations

from collections.abc import AsyncIterable, Sequence

import grpc
import grpc.aio

from lossd_server.call.contract import Handler, Routes, RpcMethod, Status, whole_message
from lossd_server.call.load_report import LoadReport
from lossd_server.config.settings import Settings
from lossd_server.front.grpcio import channel_options
from lossd_server.front.grpcio.call import Context, GrpcioCall


class GrpcioFront:
    """`lossd_server.call.contract.Front`. shares_port: with other processes of this server. tls: of its TCP ports."""

    def __init__(
        self,
        routes: Routes,
        settings: Settings,
        shares_port: bool = False,
        tls: grpc.ServerCredentials | None = None,
    ) -> None:
        self._tls = tls
        self._server = grpc.aio.server(
            options=channel_options.arguments(settings, shares_port), compression=grpc.Compression.NoCompression
        )
        self._server.add_generic_rpc_handlers((_EveryMethod(routes),))

    async def start(self, addresses: Sequence[str]) -> list[str]:
        opened = []
        for address in addresses:
            try:
                port = self._open(address)
            except RuntimeError as error:
                raise OSError(f"cannot listen on {address}") from error
            opened.append(address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}")
        await self._server.start()
        return opened

    def _open(self, address: str) -> int:
        if self._tls is None or address.startswith("unix:"):
            return self._server.add_insecure_port(address)
        return self._server.add_secure_port(address, self._tls)

    @property
    def connections(self) -> None:
        """Core does not tell."""

    async def stop(self, grace_s: float | None) -> None:
        await self._server.stop(grace=grace_s)


class _EveryMethod(grpc.GenericRpcHandler):
    """One generic handler: core keeps a pending accept for it, and not one for each method."""

    def __init__(self, routes: Routes) -> None:
        self._load = routes.load
        self._handlers = {path: _rpc_handler(path, method, routes.load) for path, method in routes.methods.items()}
        self._unknown = routes.unknown

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        path = handler_call_details.method
        return self._handlers.get(path) or _rpc_handler(path, self._unknown, self._load)


def _rpc_handler(path: str, method: RpcMethod, load: LoadReport) -> grpc.RpcMethodHandler[bytes, bytes]:
    """For requests as streams in either case: a client that sends one message works unchanged, and a message that is
    read by hand can be refused before it is there."""
    if method.streams:
        return grpc.stream_stream_rpc_method_handler(_streaming(path, method.handler, load))
    return grpc.stream_unary_rpc_method_handler(_unary(path, method.handler, load))


def _unary(path: str, handler: Handler, load: LoadReport):  # type: ignore[no-untyped-def]  # grpc's types know no aio handler
    async def handle(_: AsyncIterable[bytes], context: Context) -> bytes:
        call = GrpcioCall(path, context, load)
        answer = await handler(call)
        if not isinstance(answer, Status):
            context.set_trailing_metadata(load.trailers())
            return whole_message(answer)
        await call.abort(answer)
        raise AssertionError("an abort raises")

    return handle


def _streaming(path: str, handler: Handler, load: LoadReport):  # type: ignore[no-untyped-def]  # grpc's types know no aio handler
    async def handle(_: AsyncIterable[bytes], context: Context) -> None:
        call = GrpcioCall(path, context, load)
        answer = await handler(call)
        if not isinstance(answer, Status):
            await call.write(answer)
        elif answer.code:
            await call.end(answer)
        context.set_trailing_metadata(load.trailers())

    return handle
