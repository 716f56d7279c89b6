"""Request id: by which a call is found in logs. The client's own, or one that is made where it is needed."""

from __future__ import annotations

import re
import secrets

from lossd_server.call.contract import Metadata

REQUEST_ID = "x-request-id"
# What a client may say; anything else is not its id.
_TAKEN = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class LazyRequestId:
    """Of a call that has nothing else to keep it."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self._found = ""

    @property
    def request_id(self) -> str:
        self._found = self._found or request_id_of(self._metadata)
        return self._found


def request_id_of(metadata: Metadata) -> str:
    """The first that the client names and that can be one; else a new one, 64 random bits."""
    for key, value in metadata:
        if key == REQUEST_ID and isinstance(value, str) and _TAKEN.fullmatch(value):
            return value
    return secrets.token_hex(8)
