"""Dispatch: from a method's path to its handler. The one way out for errors, which become statuses here."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from lossd_server.call.contract import (
    OK,
    AnswerAtOnce,
    Handler,
    Message,
    Routes,
    RpcMethod,
    ServerCall,
    Status,
    none_at_once,
)
from lossd_server.errors import NotServed, ServerError
from lossd_server.wire.status import status_of, told

log = logging.getLogger(__name__)

# What a service makes of a call: its last message, None where there is none left. Raises ServerError; anything else
# that it raises is a bug of ours.
ServiceMethod = Callable[[ServerCall], Awaitable[Message | None]]


class Dispatcher:
    """The methods of a server's services, by path. at_once: of all of them, as in `Routes`."""

    def __init__(self) -> None:
        self._methods: dict[str, RpcMethod] = {}
        self.at_once: AnswerAtOnce = none_at_once

    def add(self, service: str, name: str, method: ServiceMethod, streams: bool = False) -> None:
        """service: "package.Service". streams: whether any number of messages answers a call."""
        self._methods[f"/{service}/{name}"] = RpcMethod(_answered(method), streams)

    def routes(self) -> Routes:
        return Routes(self._methods, RpcMethod(_answered(_unknown)), self.at_once)


def _answered(method: ServiceMethod) -> Handler:
    async def handle(call: ServerCall) -> Message | Status:
        try:
            answer = await method(call)
        except Exception as error:
            return _refused(call, error)
        return OK if answer is None else answer

    return handle


def _refused(call: ServerCall, error: Exception) -> Status:
    """Nothing but a ServerError's own words reaches the wire."""
    if isinstance(error, ServerError) and log.isEnabledFor(logging.DEBUG):
        fields = {"rpc": call.method, "peer": call.peer, "reason": error.reason, "request_id": call.request_id}
        log.debug("refused", extra=fields)
    return status_of(told(call.method.rpartition("/")[2], error, call), call)


async def _unknown(call: ServerCall) -> None:
    raise NotServed(
        f"this server has no method {call.method}", reason="UNKNOWN_METHOD", metadata={"method": call.method}
    )
