"""Gate: asks every call who makes it, before anything else is done for it.

It stands between a front and the server's handlers, and there is no way round it: a front knows routes alone, and the
routes that come out of here all ask.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from lossd_server.call.contract import Handler, Message, Routes, RpcMethod, ServerCall, Status, WholeCall
from lossd_server.call.identity import CALLER
from lossd_server.errors import Overloaded, Unauthenticated
from lossd_server.identity.caller_limits import CallerLimits
from lossd_server.identity.callers import Callers
from lossd_server.wire.status import status_of

log = logging.getLogger(__name__)


def gated(routes: Routes, callers: Callers, open_services: Sequence[str] = ()) -> Routes:
    """The routes, each of which asks. open_services: whose methods answer everybody ("package.Service")."""
    limits = CallerLimits()
    exempt = tuple(f"/{service}/" for service in open_services)

    def asks(method: RpcMethod) -> RpcMethod:
        return replace(method, handler=_asking(method, callers, limits))

    def answer_at_once(calls: Sequence[WholeCall]) -> Sequence[bytes | None]:
        known = [_is_known(callers, call) for call in calls]
        if all(known):
            return routes.at_once(calls)
        # Strangers' calls go to their handlers, which refuse them.
        answers = list(routes.at_once([call for call, knows in zip(calls, known, strict=True) if knows]))
        found: list[bytes | None] = []
        for knows in known:
            if not knows:
                found.append(None)
            elif answers:
                found.append(answers.pop(0))
            else:
                break
        return found

    return Routes(
        {path: method if path.startswith(exempt) else asks(method) for path, method in routes.methods.items()},
        asks(routes.unknown),
        answer_at_once,
    )


def _asking(method: RpcMethod, callers: Callers, limits: CallerLimits) -> Handler:
    async def handle(call: ServerCall) -> Message | Status:
        try:
            identity = callers.identify(call.metadata, call.subject)
            CALLER.set(identity)
            with limits.held(identity, method.streams):
                return await method.handler(call)  # which raises nothing of these
        except (Unauthenticated, Overloaded) as error:
            log.debug("refused", extra={"rpc": call.method, "peer": call.peer, "reason": error.reason})
            return status_of(error)

    return handle


def _is_known(callers: Callers, call: WholeCall) -> bool:
    try:
        callers.identify(call.metadata, call.subject)
    except Unauthenticated:
        return False
    return True
