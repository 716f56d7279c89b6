"""What a command says of an error."""

from __future__ import annotations

from lossd.command_line.credential_flags import in_flags


def error_text(error: Exception) -> str:
    """Its sentence, with flags for arguments; of a call that a server refused, with the request id that finds it in the
    server's log."""
    request_id, text = getattr(error, "request_id", ""), in_flags(error)
    return f"{text} (request id {request_id})" if request_id and request_id not in text else text
