"""Reasons why a server is not reached: gRPC's words for a failed connection, as sentences that say what to do.

The words are not promised to stay: what is not known here keeps the general sentence, and a test holds each cause.
"""

from __future__ import annotations

from lossd.errors import NotServed, Unavailable
from lossd.rpc.credentials import PLAIN, Credentials

# Closed before HTTP/2's greeting. A server that wants a certificate, and does not take the client's or gets none, does
# so in the handshake's last step, of which gRPC says nothing: what the client has shown tells what it may be.
_CLOSED = "CLOSED"
# What gRPC says → the reason. The first that is found counts.
_REASONS = (
    ("certificate has expired", "CERTIFICATE_OUT_OF_DATE"),
    ("certificate is not yet valid", "CERTIFICATE_OUT_OF_DATE"),
    ("CERTIFICATE_VERIFY_FAILED", "UNKNOWN_AUTHORITY"),
    ("Hostname Verification Check failed", "NOT_THAT_HOST"),
    ("is not in peer certificate", "NOT_THAT_HOST"),
    ("WRONG_VERSION_NUMBER", "NO_TLS_THERE"),
    ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "CERTIFICATE_WANTED"),
    ("TLSV1_ALERT_UNKNOWN_CA", "CERTIFICATE_NOT_TAKEN"),
    ("missing selected ALPN", "NOT_A_SERVER"),
    ("errors resolving", "NAME_NOT_FOUND"),
    ("DNS resolution failed", "NAME_NOT_FOUND"),
    ("No such file or directory", "NO_SOCKET"),
    ("Permission denied", "NOT_PERMITTED"),
    ("Connection refused", "NOTHING_LISTENS"),
    ("No connection could be made", "NOTHING_LISTENS"),  # Windows
    ("before receiving SETTINGS", _CLOSED),
    ("Failed parsing HTTP/2", "NOT_A_SERVER"),
    ("Received http2 header with status", "NOT_A_SERVER"),
    ("failed to connect to all addresses; last error: UNAVAILABLE", _CLOSED),
    ("as many connections as it takes", "TOO_MANY_CONNECTIONS"),
    ("timed out", "NOT_CONNECTED"),
    ("No route to host", "NO_ROUTE"),
    ("Network is unreachable", "NO_ROUTE"),
)
# Those where nobody answers at a socket that is, or was, a server's.
GONE = frozenset({"NO_SOCKET", "NOTHING_LISTENS"})


def unreachable(error: Unavailable | NotServed, address: str, shown: Credentials = PLAIN) -> Unavailable | NotServed:
    """The same error with its cause, where gRPC's words tell one. shown: what the client shows of itself."""
    for words, found in _REASONS:
        if words in error.details:
            reason = _closed(shown) if found == _CLOSED else found
            return Unavailable(
                sentence(reason, address), reason=reason, metadata={"address": address}, details=error.details
            )
    return error


def _closed(shown: Credentials) -> str:
    if not shown.tls:
        return "NOT_A_SERVER"
    return "CERTIFICATE_NOT_TAKEN" if shown.cert else "CERTIFICATE_WANTED"


def sentence(reason: str, address: str) -> str:
    """What is the matter with `address`, in the words of whoever gave it."""
    start = f"`lossd serve --listen {address}`" if address.startswith("unix:") else "`lossd serve`"
    return {
        "NOTHING_LISTENS": f"nothing listens at {address}; {start} starts a server",
        "NO_SOCKET": f"there is no socket {address.removeprefix('unix:')}; {start} starts a server",
        "NOT_PERMITTED": f"this user may not connect to {address}: whoever started the server may",
        "NAME_NOT_FOUND": f"the host name of {address} is not found: is it spelled as the server's host is called?",
        "NOT_A_SERVER": f"{address} can be connected to, but it does not answer as a gRPC server: is it lossd's port, "
        "and does it want TLS (tls=True, or ca=FILE)?",
        "NO_TLS_THERE": f"{address} does not answer in TLS: a server without it wants neither tls=, ca= nor cert= (nor "
        "LOSSD_CA, LOSSD_CERT)",
        "UNKNOWN_AUTHORITY": f"the certificate of {address} is not signed by an authority that this client knows: give "
        "ca=FILE with the one that signed it",
        "CERTIFICATE_OUT_OF_DATE": f"the certificate of {address} has expired, or is not valid yet: whoever runs the "
        "server renews it. Is this host's clock right?",
        "NOT_THAT_HOST": f"the certificate of {address} is for another host: use a name that it has",
        "CERTIFICATE_WANTED": f"{address} ended the TLS handshake. It seems to want a certificate from its clients: "
        "give cert=FILE and key=FILE",
        "CERTIFICATE_NOT_TAKEN": f"{address} ended the TLS handshake. It seems not to take this client's certificate: "
        "is cert=FILE within its dates, and signed by an authority that the server knows?",
        "TOO_MANY_CONNECTIONS": f"{address} has as many connections as it takes (its --max-connections)",
        "NOT_CONNECTED": f"{address} does not answer: no connection in time. Is its host up, its port open?",
        "NO_ROUTE": f"there is no route from this host to {address}",
    }[reason]
