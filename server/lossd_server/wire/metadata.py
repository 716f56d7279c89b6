"""Request metadata: the two sizes that a client may announce."""

from __future__ import annotations

from functools import lru_cache

from lossd_server.call.contract import Metadata
from lossd_server.errors import InvalidRequest

REQUEST_BYTES = "lossd-request-bytes"
RESPONSE_BYTES = "lossd-max-response-bytes"
REMEMBERED = 256  # metadata, of 8 KiB at most


def sizes(metadata: Metadata) -> tuple[int | None, int | None]:
    """The two sizes that a client may announce: of its message, and of the largest answer that it takes."""
    announced = bound = None
    for key, value in metadata:
        if key == REQUEST_BYTES:
            announced = _decimal(key, value)
        elif key == RESPONSE_BYTES:
            bound = _decimal(key, value)
    return announced, bound


# Callers that call often say the same again and again.
remembered_sizes = lru_cache(REMEMBERED)(sizes)


def _decimal(key: str, value: str | bytes) -> int:
    """A size from metadata: decimal digits, few enough to be one."""
    text = value if isinstance(value, str) else value.decode("ascii", "replace")
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise InvalidRequest(
            f"metadata {key} = {text!r} is not a number of bytes",
            reason="INVALID_METADATA",
            metadata={"key": key, "value": text},
        )
    return int(text)
