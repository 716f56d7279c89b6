"""Token file: who may call, by the hash of a token or by a certificate's subject.

A line for each name, `#` before a comment:

    trainer: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    evaluator: sha256:… max_inflight_requests=100 max_streams=4
    host-7.example: certificate

A name may have several lines, so that a token can be replaced without a gap; its limits are those of its first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hmac import compare_digest
from pathlib import Path

from lossd.command_line.token_line import checked_name, token_hash
from lossd_server.call.identity import Identity
from lossd_server.config.settings import SettingsError

_HASH = re.compile(r"sha256:([0-9a-f]{64})")
CERTIFICATE = "certificate"
LIMITS = "max_inflight_requests", "max_inflight_bytes", "max_streams"
# Lines with a token: each is compared with every token that was not seen before.
MOST_TOKENS = 10_000


@dataclass(frozen=True, slots=True)
class Tokens:
    """by_hash: SHA-256 and identity of every token. by_subject: identities of certificates."""

    by_hash: tuple[tuple[bytes, Identity], ...]
    by_subject: dict[str, Identity]

    def of_token(self, token: str) -> Identity | None:
        """Whose it is. Every line is compared, so that the time tells nothing."""
        given, found = token_hash(token), None
        for known, identity in self.by_hash:
            if compare_digest(known, given):
                found = identity
        return found


def read_tokens(path: str) -> Tokens:
    """Raises SettingsError: the file is named, and the line that is at fault, without what it holds."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise SettingsError(f"tokens = {path!r} cannot be read: {said}") from None
    by_hash: list[tuple[bytes, Identity]] = []
    by_subject: dict[str, Identity] = {}
    known: dict[str, Identity] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            identity, secret = _read_line(words)
        except ValueError as error:
            raise SettingsError(f"tokens = {path!r}, line {number}: {error}") from None
        identity = known.setdefault(identity.name, identity)
        if secret is None:
            by_subject[identity.name] = identity
        else:
            by_hash.append((secret, identity))
    if not known:
        raise SettingsError(f"tokens = {path!r} names nobody: nobody could call; `lossd token NAME FILE` makes a line")
    if len(by_hash) > MOST_TOKENS:
        raise SettingsError(f"tokens = {path!r} has {len(by_hash)} tokens, at most {MOST_TOKENS} are compared")
    return Tokens(tuple(by_hash), by_subject)


def _read_line(words: list[str]) -> tuple[Identity, bytes | None]:
    """The identity, and its token's hash. Raises ValueError, whose sentence has nothing that may be secret."""
    if len(words) < 2 or not words[0].endswith(":"):
        raise ValueError("expected `name: sha256:HASH` or `name: certificate`, and limits behind it")
    name, secret, *limits = words
    bounds: dict[str, int] = {}
    match = _HASH.fullmatch(secret)
    if match is None and secret != CERTIFICATE:
        raise ValueError("what follows the name is neither sha256: with 64 hexadecimal digits nor certificate")
    for limit in limits:
        key, _, value = limit.partition("=")
        if key not in LIMITS:
            raise ValueError(f"{key!r} is no limit: there are {', '.join(LIMITS)}")
        if not value.isascii() or not value.isdecimal() or not 0 < int(value) < 1 << 31:
            raise ValueError(f"{key} = {value!r} must be a number above 0")
        bounds[key] = int(value)
    requests, size, streams = (bounds.get(limit, 0) for limit in LIMITS)
    return Identity(checked_name(name[:-1]), requests, size, streams), bytes.fromhex(match[1]) if match else None
