"""Unauthenticated callers: what a client that was refused has to give, beside the server's own sentence."""

from __future__ import annotations

from lossd.errors import Unauthenticated
from lossd.rpc.credentials import Credentials

_TOKEN = "give token=TOKEN or token_file=FILE (or LOSSD_TOKEN, LOSSD_TOKEN_FILE)"


def with_what_to_give(error: Unauthenticated, shown: Credentials) -> Unauthenticated:
    """The same error; its sentence ends with the options that would help. shown: what the client shows."""
    told = {
        "NO_CREDENTIALS": f"{_TOKEN}, or cert=FILE and key=FILE",
        "UNKNOWN_TOKEN": f"is {_given(shown)} what `lossd token` printed for it?",
        "UNKNOWN_SUBJECT": f"{_TOKEN}, or another cert=FILE" if shown.cert else _TOKEN,
    }.get(error.reason, "")
    if not told or error.message.endswith(told):
        return error
    return Unauthenticated(
        f"{error.message}; {told}",
        field=error.field,
        reason=error.reason,
        metadata=error.metadata,
        request_id=error.request_id,
    )


def _given(shown: Credentials) -> str:
    if shown.token_file is not None:
        return f"what token_file = {shown.token_file.path!r} holds"
    return "token= (or LOSSD_TOKEN)"
