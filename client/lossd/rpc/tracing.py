"""Tracing: spans of the client's RPCs, for an application that uses OpenTelemetry. For any other, a look into a dict.

lossd imports OpenTelemetry only where the application has: nobody else has a tracer provider, or a span to be below.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lossd.rpc.call_span import CallSpan


def begin_span(path: str, address: str, request_bytes: int = 0) -> CallSpan | None:
    """The span of an RPC that begins; None where there is no provider, and no span around it either.

    request_bytes: 0 for a stream, which has any number.
    """
    if "opentelemetry.trace" not in sys.modules:
        return None
    from lossd.rpc.call_span import begin

    return begin(path, address, request_bytes)
