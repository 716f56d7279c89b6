"""Token line: what a server's file of tokens has for one. `lossd token` writes it, the server reads it."""

from __future__ import annotations

import os
import re
import secrets
from hashlib import sha256
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}")
TOKEN_BYTES = 32


def checked_name(name: str) -> str:
    """The name of a caller. Raises ValueError with a sentence."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name: letters, digits and . _ @ -, at most 128, a letter or digit first")
    return name


def token_hash(token: str) -> bytes:
    """SHA-256: tokens are random, so nothing slower is needed."""
    return sha256(token.encode("utf-8", "surrogateescape")).digest()


def token_line(name: str, token: str) -> str:
    """`name: sha256:HASH`. Raises ValueError with a sentence."""
    return f"{checked_name(name)}: sha256:{token_hash(token).hex()}"


def add_token(name: str, file: Path) -> str:
    """A new token of 256 random bits, of which the file, made for its owner alone if it is not there, has the hash.

    A name may have several tokens. Raises ValueError, OSError.
    """
    token = secrets.token_urlsafe(TOKEN_BYTES)
    line = token_line(name, token)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    with open(descriptor, "r+b") as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(0, size - 1))
        apart = b"" if size == 0 or opened.read(1) == b"\n" else b"\n"
        opened.write(apart + line.encode() + b"\n")
    return token
