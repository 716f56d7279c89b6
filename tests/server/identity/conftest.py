"""Certificates of an authority of the tests', and a file of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
import pytest

from lossd.command_line.make_certificates import make_certificates
from lossd.command_line.token_line import add_token


@dataclass(frozen=True, slots=True)
class Pki:
    """What `lossd certificates` writes, for a client called client-7."""

    folder: Path

    def __getattr__(self, name: str) -> str:
        """pki.server_pem: the path of server.pem."""
        return str(self.folder / name.replace("_", "."))

    def renew(self) -> None:
        """Another authority, and certificates of it, in the place of those before."""
        make_certificates(self.folder, [], "client-7", days=1)

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


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    made = Pki(tmp_path / "pki")
    made.renew()
    return made


@pytest.fixture
def another_pki(tmp_path: Path) -> Pki:
    """Of an authority that nobody trusts."""
    made = Pki(tmp_path / "another")
    made.renew()
    return made


@dataclass(frozen=True, slots=True)
class TokenFile:
    path: str
    token: str


@pytest.fixture
def tokens(tmp_path: Path) -> TokenFile:
    """One for a caller named trainer."""
    path = tmp_path / "tokens"
    return TokenFile(str(path), add_token("trainer", path))
