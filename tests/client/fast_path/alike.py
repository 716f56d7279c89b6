"""What both ways of a small call are compared by, and answers of a server without its sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lossd
from lossd.request.build import Call
from lossd_server import losses
from lossd_server.backends import Backend
from lossd_server.engine.evaluate import evaluate
from lossd_server.errors import ServerError
from lossd_server.wire import codec


def answered(backend: Backend, call: Call, compute_ns: int = 1) -> bytes | None:
    """The serialised answer to a call; None where it is wrong."""
    try:
        job = losses.check(call.rpc, codec.decode_fields(call.rpc, call.body()))
        (answer,) = evaluate(backend, [job])
    except ServerError:
        return None
    if isinstance(answer, ServerError):
        return None
    return codec.encode(answer, queue_ns=0, compute_ns=compute_ns, batch_requests=1, batch_rows=200)


def outcome(make: Callable[[], Any]) -> Any:
    """What it returns, or its exception's type, text and attributes."""
    try:
        return make()
    except Exception as error:
        return type(error), str(error), vars(error)


def told(result: lossd.Result) -> Any:
    """All that can be seen of a result."""
    arrays = {"loss": result.loss, **result.grads, **result.outputs}
    return (
        type(result),
        repr(result),
        repr(result.summary),
        repr(result.timing),
        [type(one) for one in (result.summary, result.timing, result.grads, result.outputs)],
        list(result.grads),
        list(result.outputs),
        [(name, *_told(array)) for name, array in arrays.items()],
    )


def _told(array: Any) -> Any:
    return type(array), array.dtype, array.shape, array.strides, array.tobytes(), str(array.flags), type(array.base)
