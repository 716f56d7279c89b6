"""Names of gRPC's codes, as logs and traces have them."""

from __future__ import annotations

from grpc import StatusCode

_NAMES = {code.value[0]: code.name for code in StatusCode}


def code_name(code: int) -> str:
    """ "INVALID_ARGUMENT" for 3."""
    return _NAMES.get(code, str(code))
