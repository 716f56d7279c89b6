"""Credentials of gRPC core for a port with TLS, read again when their files have changed."""

from __future__ import annotations

from collections.abc import Callable

import grpc

# Chain, key and authorities of clients, in PEM; the last empty where no client needs a certificate.
Pem = tuple[bytes, bytes, bytes]


def server_credentials(read: Callable[[], Pem], changes: Callable[[], int], demands: bool) -> grpc.ServerCredentials:
    """read: what the files held when they were last found to fit. changes: how often that has changed.

    demands: whether each client needs a certificate. Core asks before each handshake, in a thread of its own.
    """
    taken = changes()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal taken
        now = changes()
        if now == taken:
            return None
        found = _configuration(read())
        taken = now
        return found

    return grpc.dynamic_ssl_server_credentials(_configuration(read()), fetch, demands)  # type: ignore[arg-type]  # None: no change


def _configuration(pem: Pem) -> grpc.ServerCertificateConfiguration:
    chain, key, authorities = pem
    return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=authorities or None)
