"""Gate: asks every call who makes it, before anything else is done for it, and counts it to that caller.

It stands between a front and the server's handlers, and there is no way round it: a front knows routes alone, and the
routes that come out of here all ask. Where nobody is asked, callers are the hosts of their peers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from lossd_server.admission.caller_holdings import CallerHoldings
from lossd_server.call.contract import Handler, Message, Routes, RpcMethod, ServerCall, Status, WholeCall
from lossd_server.call.identity import CALLER, Identity, peer_host
from lossd_server.errors import Overloaded, Unauthenticated
from lossd_server.identity.callers import REMEMBERED, Callers
from lossd_server.wire.status import status_of

log = logging.getLogger(__name__)

# Hosts are remembered, since to make an identity costs a microsecond: more begin anew.
_HOSTS: dict[str, Identity] = {}


def gated(
    routes: Routes,
    callers: Callers | None,
    holdings: CallerHoldings,
    open_services: Sequence[str] = (),
    called: Callable[[str], object] = lambda _: None,
) -> Routes:
    """The routes, each of which asks. callers: None where everybody may call. open_services: whose methods answer
    everybody and count for nobody ("package.Service"). called: told of each call that somebody makes who is known, by
    name."""
    exempt = tuple(f"/{service}/" for service in open_services)

    def asks(method: RpcMethod) -> RpcMethod:
        return replace(method, handler=_asking(method, callers, holdings, called))

    return Routes(
        {path: method if path.startswith(exempt) else asks(method) for path, method in routes.methods.items()},
        asks(routes.unknown),
        routes.at_once if callers is None else partial(_asked_at_once, routes, callers, called),
        load=routes.load,
    )


def _asked_at_once(
    routes: Routes, callers: Callers, called: Callable[[str], object], calls: Sequence[WholeCall]
) -> Sequence[bytes | None]:
    """`call.contract.AnswerAtOnce`."""
    known = [_known(callers, call) for call in calls]
    # Strangers' calls go to their handlers, which refuse them.
    answers = list(routes.at_once([call for call, name in zip(calls, known, strict=True) if name is not None]))
    found: list[bytes | None] = []
    for name in known:
        if name is None:
            found.append(None)
        elif answers:
            answer = answers.pop(0)
            found.append(answer)
            if answer is not None:  # the others are asked again, where they are handled
                called(name)
        else:
            break
    return found


def _asking(
    method: RpcMethod, callers: Callers | None, holdings: CallerHoldings, called: Callable[[str], object]
) -> Handler:
    async def handle(call: ServerCall) -> Message | Status:
        try:
            if callers is None:
                identity = host_of(call.peer)
            else:
                identity = callers.identify(call.metadata, call.subject)
            CALLER.set(identity)
            if callers is not None:
                called(identity.name)
            holding = holdings.of(identity)
            holding.enter(method.streams)
        except (Unauthenticated, Overloaded) as error:
            fields = {"rpc": call.method, "peer": call.peer, "reason": error.reason, "request_id": call.request_id}
            log.debug("refused", extra=fields)
            return status_of(error, call)
        call.on_close(partial(holdings.leave, holding, method.streams))
        return await method.handler(call)

    return handle


def host_of(peer: str) -> Identity:
    """Whoever calls from there, where nobody is asked."""
    host = peer_host(peer)
    identity = _HOSTS.get(host)
    if identity is None:
        if len(_HOSTS) >= REMEMBERED:
            _HOSTS.clear()
        identity = _HOSTS[host] = Identity(host, verified=False)
    return identity


def _known(callers: Callers, call: WholeCall) -> str | None:
    """The caller's name; None for a stranger."""
    try:
        return callers.identify(call.metadata, call.origin.subject).name
    except Unauthenticated:
        return None
