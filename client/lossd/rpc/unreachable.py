"""Reasons why a server is not reached: gRPC's words for a failed connection, as sentences that say what to do.

The words are not promised to stay: what is not known here keeps the general sentence, and a test holds each cause.
"""

from __future__ import annotations

from lossd.errors import NotServed, Unavailable

# What gRPC says → the reason. The first that is found counts.
_REASONS = (
    ("CERTIFICATE_VERIFY_FAILED", "UNKNOWN_AUTHORITY"),
    ("Hostname Verification Check failed", "NOT_THAT_HOST"),
    ("is not in peer certificate", "NOT_THAT_HOST"),
    ("WRONG_VERSION_NUMBER", "NO_TLS_THERE"),
    ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "CERTIFICATE_WANTED"),
    ("TLSV1_ALERT_UNKNOWN_CA", "CERTIFICATE_NOT_TAKEN"),
    ("errors resolving", "NAME_NOT_FOUND"),
    ("DNS resolution failed", "NAME_NOT_FOUND"),
    ("No such file or directory", "NO_SOCKET"),
    ("Permission denied", "NOT_PERMITTED"),
    ("Connection refused", "NOTHING_LISTENS"),
    ("No connection could be made", "NOTHING_LISTENS"),  # Windows
    ("before receiving SETTINGS", "NOT_A_SERVER"),
    ("Failed parsing HTTP/2", "NOT_A_SERVER"),
    ("Received http2 header with status", "NOT_A_SERVER"),
    ("failed to connect to all addresses; last error: UNAVAILABLE", "NOT_A_SERVER"),  # closed before HTTP/2's greeting
    ("timed out", "NOT_CONNECTED"),
    ("No route to host", "NO_ROUTE"),
    ("Network is unreachable", "NO_ROUTE"),
)
# Those where nobody answers at a socket that is, or was, a server's.
GONE = frozenset({"NO_SOCKET", "NOTHING_LISTENS"})


def unreachable(error: Unavailable | NotServed, address: str) -> Unavailable | NotServed:
    """The same error with its cause, where gRPC's words tell one."""
    for words, reason in _REASONS:
        if words in error.details:
            return Unavailable(
                sentence(reason, address), reason=reason, metadata={"address": address}, details=error.details
            )
    return error


def sentence(reason: str, address: str) -> str:
    """What is the matter with `address`, in the words of whoever gave it."""
    start = f"`lossd serve --listen {address}`" if address.startswith("unix:") else "`lossd serve`"
    return {
        "NOTHING_LISTENS": f"nothing listens at {address}; {start} starts a server",
        "NO_SOCKET": f"there is no socket {address.removeprefix('unix:')}; {start} starts a server",
        "NOT_PERMITTED": f"this user may not connect to {address}: whoever started the server may",
        "NAME_NOT_FOUND": f"the host name of {address} is not found: is it spelled as the server's host is called?",
        "NOT_A_SERVER": f"{address} can be connected to, but it does not answer as a gRPC server: is it lossd's port, "
        "and does it want TLS (tls=True, or ca=FILE) or a client's certificate (cert=FILE, key=FILE)?",
        "NO_TLS_THERE": f"{address} does not answer in TLS: is it a server without, for tls=False?",
        "UNKNOWN_AUTHORITY": f"the certificate of {address} is not signed by an authority that this client knows: give "
        "ca=FILE with the one that signed it",
        "NOT_THAT_HOST": f"the certificate of {address} is for another host: use a name that it has",
        "CERTIFICATE_WANTED": f"{address} wants a certificate from its clients: give cert=FILE and key=FILE",
        "CERTIFICATE_NOT_TAKEN": f"{address} does not know the authority that signed this client's certificate",
        "NOT_CONNECTED": f"{address} does not answer: no connection in time. Is its host up, its port open?",
        "NO_ROUTE": f"there is no route from this host to {address}",
    }[reason]
