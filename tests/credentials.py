"""Certificates of an authority of the tests', and a file of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from lossd.command_line.make_certificates import make_certificates
from lossd.command_line.token_line import add_token


@dataclass(frozen=True, slots=True)
class Pki:
    """What `lossd certificates` writes, for a client called client-7."""

    folder: Path

    def __getattr__(self, name: str) -> str:
        """pki.server_pem: the path of server.pem."""
        return str(self.folder / name.replace("_", "."))

    def renew(self, days: int = 1) -> None:
        """Another authority, and certificates of it, in the place of those before. days: until they end."""
        make_certificates(self.folder, [], "client-7", days)

    @property
    def serving(self) -> dict[str, str]:
        """Settings of a server with TLS."""
        return {"tls_cert": self.server_pem, "tls_key": self.server_key}

    def channel(self, address: str, client: Pki | None = None) -> grpc.aio.Channel:
        """To a server with this authority's certificate. client: whose certificate is shown, if any."""
        shown = () if client is None else (Path(client.client_key).read_bytes(), Path(client.client_pem).read_bytes())
        credentials = grpc.ssl_channel_credentials(Path(self.ca_pem).read_bytes(), *shown)
        options = [("grpc.use_local_subchannel_pool", 1)]
        return grpc.aio.secure_channel(address, credentials, options=options)

    @property
    def demanding(self) -> dict[str, str]:
        """The same, whose clients need a certificate of this authority."""
        return {**self.serving, "tls_client_ca": self.ca_pem}

    @property
    def trusting(self) -> dict[str, Any]:
        """Arguments of a client that knows this authority."""
        return {"ca": self.ca_pem}

    @property
    def shown(self) -> dict[str, Any]:
        """Arguments of a client that shows its certificate, too."""
        return {**self.trusting, "cert": self.client_pem, "key": self.client_key}


@dataclass(frozen=True, slots=True)
class TokenFile:
    path: str
    token: str

    @classmethod
    def made(cls, path: Path) -> TokenFile:
        """One for a caller named trainer."""
        return cls(str(path), add_token("trainer", path))
