"""Certificates of the server: TLS contexts that follow their files.

A connection keeps what it began with; each new one has what the files had when they were last looked at.
"""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lossd_server.config.settings import Settings, SettingsError
from lossd_server.identity.certificate_expiry import earliest_end
from lossd_server.identity.file_stamp import file_stamp

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """PEM files: the server's chain and key; the authorities of its clients, "" where no client needs a certificate."""

    cert: str
    key: str
    client_ca: str

    @classmethod
    def of(cls, settings: Settings) -> CertificateFiles | None:
        """Those that the settings name; None for a server without TLS."""
        return cls(settings.tls_cert, settings.tls_key, settings.tls_client_ca) if settings.tls_cert else None

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(path for path in (self.cert, self.key, self.client_ca) if path)

    def read(self) -> tuple[bytes, bytes, bytes]:
        """What they hold: chain, key, authorities. Raises OSError."""
        chain, key = Path(self.cert).read_bytes(), Path(self.key).read_bytes()
        return chain, key, Path(self.client_ca).read_bytes() if self.client_ca else b""

    def context(self, alpn: Sequence[str] = (), demands: bool = True) -> ssl.SSLContext:
        """Of a server that speaks TLS 1.2 or later. Raises SettingsError.

        alpn: what it agrees on in it. demands: whether a client without a certificate is refused, where there are
        authorities.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # No tickets: whoever resumes a session shows no certificate, and that of the session may have expired since.
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
        context.num_tickets = 0
        if alpn:
            context.set_alpn_protocols(list(alpn))
        _check_file("tls_cert", self.cert, b"CERTIFICATE")
        _check_file("tls_key", self.key, b"PRIVATE KEY")
        try:
            context.load_cert_chain(self.cert, self.key, password=_no_password)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise SettingsError(f"tls_key = {self.key!r} with tls_cert = {self.cert!r}: {_meaning(error)}") from None
        if self.client_ca:
            _check_file("tls_client_ca", self.client_ca, b"CERTIFICATE")
            try:
                context.load_verify_locations(self.client_ca)
            except OSError as error:
                raise SettingsError(f"tls_client_ca = {self.client_ca!r}: {_meaning(error)}") from None
            context.verify_mode = ssl.CERT_REQUIRED if demands else ssl.CERT_OPTIONAL
        return context


class Certificates:
    """The contexts of a server's new connections. Call `look` from time to time.

    pem: what the files held when they were last taken, for whoever makes contexts of his own. ends: when the first
    certificate of each ends, in Unix seconds, by setting.
    """

    def __init__(self, files: CertificateFiles, alpn: Sequence[str] = (), demands: bool = True) -> None:
        """alpn, demands: as of `CertificateFiles.context`. Raises SettingsError."""
        self.files = files
        self._alpn = tuple(alpn)
        self._demands = demands
        self._stamp: object = file_stamp(*files.paths)
        self._told: object = self._stamp  # those that cannot be used, and were told of
        self._newest = files.context(alpn, demands)
        self.pem = files.read()
        self.ends = _ends(self.pem)
        self.changes = 0

    def newest(self) -> ssl.SSLContext:
        """That of the next connection. A new one knows no session of those before it: none can be resumed there."""
        return self._newest

    def look(self) -> bool:
        """Reads the files again if they have changed since they were taken. True where there is something new."""
        stamp = file_stamp(*self.files.paths)
        if stamp == self._stamp:
            return False
        try:
            newest, pem = self.files.context(self._alpn, self._demands), self.files.read()
        except (SettingsError, OSError, MemoryError) as error:
            # While they are being replaced they need not fit together; the last one to change makes them. Descriptors
            # or memory may be short, too, so that they are read again although they have not changed.
            if stamp != self._told:
                self._told = stamp
                log.warning("certificates not taken: connections go on with those before", extra={"error": str(error)})
            return False
        if file_stamp(*self.files.paths) != stamp:
            return False  # they were replaced between the two: the next look reads them again
        self._stamp = self._told = stamp
        self._newest, self.pem, self.ends = newest, pem, _ends(pem)
        self.changes += 1
        log.info("certificates taken for new connections")
        return True


def _ends(pem: tuple[bytes, bytes, bytes]) -> Mapping[str, float]:
    chain, _, authorities = pem
    ends = {"tls_cert": earliest_end(chain), "tls_client_ca": earliest_end(authorities)}
    return {setting: end for setting, end in ends.items() if end is not None}


def _no_password() -> str:
    raise ValueError("the key has a password; give one without")


def _check_file(name: str, path: str, kind: bytes) -> None:
    """Raises SettingsError where it cannot be read, or has nothing of that kind: OpenSSL does not say which file."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise SettingsError(f"{name} = {path!r}: {error.strerror}") from None
    if not re.search(rb"-----BEGIN [A-Z ]*" + kind + rb"-----", content):
        raise SettingsError(f"{name} = {path!r} has no {kind.decode().lower()} in PEM")


def _meaning(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        if error.reason == "KEY_VALUES_MISMATCH":
            return "this key does not belong to the certificate"
        return f"OpenSSL does not take what is there ({error.reason or error})"
    return str(error)
