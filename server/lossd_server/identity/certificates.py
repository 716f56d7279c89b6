"""Certificates of the server: TLS contexts that follow their files.

A connection keeps what it began with; each new one has what the files had when they were last looked at.
"""

from __future__ import annotations

import logging
import os
import re
import ssl
from dataclasses import dataclass
from pathlib import Path

from lossd_server.config.settings import Settings, SettingsError

log = logging.getLogger(__name__)

# HTTP/2 over TLS (RFC 9113, 3.2).
ALPN = ["h2"]


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

    def stamp(self) -> tuple[tuple[int, int, int, int], ...]:
        """Changes when a file is written, or replaced. Raises OSError."""
        found = [os.stat(path) for path in self.paths]
        return tuple((one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns) for one in found)

    def read(self) -> tuple[bytes, bytes, bytes]:
        """What they hold: chain, key, authorities. Raises OSError."""
        chain, key = Path(self.cert).read_bytes(), Path(self.key).read_bytes()
        return chain, key, Path(self.client_ca).read_bytes() if self.client_ca else b""

    def context(self) -> ssl.SSLContext:
        """Of a server that speaks TLS 1.2 or later. Raises SettingsError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.set_alpn_protocols(ALPN)  # OpenSSL asks the context that a connection was handed on to
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
            context.verify_mode = ssl.CERT_REQUIRED
        return context


class Certificates:
    """The contexts of a server's new connections. Call `look` from time to time."""

    def __init__(self, files: CertificateFiles) -> None:
        """Raises SettingsError."""
        self.files = files
        self._stamp: object = _stamp_of(files)
        self._newest = files.context()
        # The one that a listener holds. It hands each connection on to the newest, with SNI or without.
        self.listening = files.context()
        self.listening.sni_callback = self._switch
        self.changes = 0

    def look(self) -> bool:
        """Reads the files again if they have changed. True where new connections have something new."""
        stamp = _stamp_of(self.files)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self._newest = self.files.context()
        except SettingsError as error:
            # While they are being replaced they need not fit together; the last one to change makes them.
            log.warning("certificates not taken: connections go on with those before", extra={"error": str(error)})
            return False
        self.changes += 1
        log.info("certificates taken for new connections")
        return True

    def _switch(self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _of: ssl.SSLContext) -> None:
        connection.context = self._newest


def _stamp_of(files: CertificateFiles) -> object:
    try:
        return files.stamp()
    except OSError as error:
        return error.errno


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
