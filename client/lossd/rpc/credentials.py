"""Credentials: how a client knows its server, and what it shows of itself. From arguments, else the environment."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from lossd.errors import InvalidArgument, shown_value
from lossd.rpc.address import EMBEDDED
from lossd.rpc.mounted_token import TOKEN, Authorization, MountedToken, bearer

StrPath = str | os.PathLike[str]

# What stands for an argument that is not given.
VARIABLES = {
    "ca": "LOSSD_CA",
    "cert": "LOSSD_CERT",
    "key": "LOSSD_KEY",
    "token": "LOSSD_TOKEN",
    "token_file": "LOSSD_TOKEN_FILE",
}
# Of TLS, which some addresses do without.
_OF_TLS = frozenset({"ca", "cert", "key"})


@dataclass(frozen=True, slots=True)
class Credentials:
    """tls: whether the connection is encrypted, and the server's certificate verified.

    ca: file of the authorities that may have signed it, "" for those that gRPC knows; cert, key: files of the client's
    own; PEM. Files are read for each new connection. token: shown with every call; token_file: the one in place of it
    that is read for every call.
    """

    tls: bool = False
    ca: str = ""
    cert: str = ""
    key: str = ""
    token: str = field(default="", repr=False)
    token_file: MountedToken | None = None

    def authorization(self) -> Authorization:
        """The metadata of a call that begins now. InvalidArgument where there is no token in the file."""
        if self.token_file is not None:
            return self.token_file.authorization()
        return bearer(self.token) if self.token else ()

    def channel_credentials(self) -> grpc.ChannelCredentials | None:
        """gRPC's, None for a plain connection. InvalidArgument where a file cannot be read."""
        if not self.tls:
            return None
        contents = [_read(name, getattr(self, name)) for name in ("ca", "key", "cert")]
        self._check_whole()
        return grpc.ssl_channel_credentials(*contents)

    def _check_whole(self) -> None:
        """InvalidArgument where the files do not fit together: core says so on stderr, and to the caller nothing."""
        from ssl import PROTOCOL_TLS_CLIENT, SSLContext, SSLError  # 10 ms that a plain connection does not need

        context = SSLContext(PROTOCOL_TLS_CLIENT)
        given = "cert", f"key = {self.key!r} with cert = {self.cert!r}: "
        try:
            if self.cert:
                context.load_cert_chain(self.cert, self.key)
            given = "ca", f"ca = {self.ca!r}: "
            if self.ca:
                context.load_verify_locations(self.ca)
        except SSLError as error:
            name, start = given
            wrong = "this key does not belong to the certificate"
            said = wrong if error.reason == "KEY_VALUES_MISMATCH" else f"OpenSSL does not take it ({error.reason})"
            raise _refused(name, start + said, "UNREADABLE_FILE") from None


PLAIN = Credentials()


def credentials(
    address: str,
    local: bool,
    *,
    tls: bool | None = None,
    ca: StrPath | None = None,
    cert: StrPath | None = None,
    key: StrPath | None = None,
    token: str | None = None,
    token_file: StrPath | None = None,
) -> Credentials:
    """Those of a client for `address`. local: on this host for certain. None: not given.

    tls is True where a ca or a cert is given. A token without TLS is for this host alone. InvalidArgument for anything
    that does not fit together.
    """
    # The two ways to give a token are one question: an argument stands before both variables.
    if token is not None and token_file is None:
        token_file = ""
    elif token_file is not None and token is None:
        token = ""
    given = {"ca": ca, "cert": cert, "key": key, "token": token, "token_file": token_file}
    if tls is not None and not isinstance(tls, bool):
        raise _refused("tls", f"tls must be True or False, not {shown_value(tls)}")
    private = address == EMBEDDED or address.startswith("unix:")
    for name, value in given.items():
        if name in _OF_TLS and value is not None and (tls is False or private):
            raise _refused(name, f"{name} is of TLS, which {'tls=False turns off' if tls is False else _PRIVATE}")
    if private and tls:
        raise _refused("tls", f"tls=True is not possible here: {_PRIVATE}")
    without = tls is False or private
    known = {
        name: _text(name, os.environ.get(VARIABLES[name]) or "" if value is None else value)
        for name, value in given.items()
        if name not in _OF_TLS or not without
    }
    path = known.pop("token_file")
    mounted = MountedToken(path) if path else None
    found = Credentials(bool(tls or known.get("ca") or known.get("cert")), **known, token_file=mounted)
    if bool(found.cert) != bool(found.key):
        lacking = "key" if found.cert else "cert"
        raise _refused(lacking, f"cert and key go together, and {lacking} is not given (nor {VARIABLES[lacking]})")
    _check_token(found, address, local)
    return found


def _check_token(found: Credentials, address: str, local: bool) -> None:
    if found.token and found.token_file:
        raise _refused("token_file", "give token= or token_file= (LOSSD_TOKEN or LOSSD_TOKEN_FILE), not both")
    if found.token and not TOKEN.fullmatch(found.token):
        raise _refused("token", "the token has characters that no token has: is there a line end in it?")
    if (found.token or found.token_file) and not found.tls and not local:
        raise _refused(
            "token" if found.token else "token_file",
            f"a token goes to {address} by TLS only: everybody on the way could read it. Give tls=True, or ca=",
            "TOKEN_WITHOUT_TLS",
        )


_PRIVATE = "a Unix socket, or an embedded server, does not have: nobody else can read what goes through it"


def _text(name: str, value: object) -> str:
    if isinstance(value, os.PathLike) and name != "token":
        value = os.fspath(value)
    if not isinstance(value, str):
        kind = "text" if name == "token" else "a path"
        raise _refused(name, f"{name} must be {kind}, not {type(value).__name__}")
    return value.strip() if name == "token" else value


def _read(name: str, path: str) -> bytes | None:
    if not path:
        return None
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        said = error.strerror or type(error).__name__
        raise _refused(name, f"{name} = {path!r} cannot be read: {said}", "UNREADABLE_FILE") from None
    # Core would say so on stderr, and that nothing listens.
    kind = b"PRIVATE KEY" if name == "key" else b"CERTIFICATE"
    if not re.search(rb"-----BEGIN (?!ENCRYPTED)[A-Z ]*" + kind + rb"-----", content):
        what = "key without a password" if name == "key" else "certificate"
        raise _refused(name, f"{name} = {path!r} has no {what} in PEM", "UNREADABLE_FILE")
    return content


def _refused(name: str, sentence: str, reason: str = "CREDENTIALS_DO_NOT_FIT") -> InvalidArgument:
    return InvalidArgument(sentence, field=name, reason=reason)
