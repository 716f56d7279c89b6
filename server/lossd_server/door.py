"""The one door for errors: nothing but a ServerError's own words reaches the wire."""

from __future__ import annotations

import logging
import secrets

from lossd_server.errors import ServerError

log = logging.getLogger(__name__)


def told(rpc: str, error: Exception) -> ServerError:
    """What the caller is told of `error`: its own words, or for a bug of ours a request id that the log has too."""
    if isinstance(error, ServerError):
        return error
    request_id = secrets.token_hex(8)
    log.error("internal error", exc_info=error, extra={"request_id": request_id, "rpc": rpc})
    return ServerError(
        f"the server failed; its log tells more under request id {request_id}",
        reason="INTERNAL",
        metadata={"request_id": request_id},
    )
