"""Callers: which identity a call has, by its token or by its connection's certificate."""

from __future__ import annotations

import logging
import os

from lossd_server.call.contract import Metadata
from lossd_server.call.identity import Identity
from lossd_server.config.settings import Settings, SettingsError
from lossd_server.errors import Unauthenticated
from lossd_server.identity.token_file import Tokens, read_tokens

log = logging.getLogger(__name__)

AUTHORIZATION = "authorization"
SCHEME = "bearer "
# Callers that are remembered by what they said: more begin anew.
REMEMBERED = 1024


class Callers:
    """Of a server that asks. Call `look` from time to time: the file is read again when it has changed."""

    def __init__(self, tokens: str, certificates: bool) -> None:
        """tokens: the file's path, or "". certificates: whether whoever has a verified one may call.

        Raises SettingsError.
        """
        self._path = tokens
        self._stamp = _stamp(tokens)
        self._tokens = read_tokens(tokens) if tokens else None
        self._certificates = certificates
        self._known: dict[tuple[str | bytes, str], Identity] = {}

    @classmethod
    def of(cls, settings: Settings) -> Callers | None:
        """Those that the settings ask for; None where everybody may call."""
        if not settings.tokens and not settings.tls_client_ca:
            return None
        return cls(settings.tokens, bool(settings.tls_client_ca))

    def identify(self, metadata: Metadata, subject: str) -> Identity:
        """Who calls with this metadata, on a connection whose certificate has `subject`. Raises Unauthenticated."""
        given: str | bytes = ""
        for key, value in metadata:
            if key == AUTHORIZATION:
                if given:
                    raise _refused("the call has more than one authorization", "SEVERAL_CREDENTIALS")
                given = value
        identity = self._known.get((given, subject))
        if identity is None:
            identity = self._find(given, subject)
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[given, subject] = identity
        return identity

    def look(self) -> None:
        """Reads the file again if it has changed. One that cannot be read changes nothing."""
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._tokens = read_tokens(self._path)
        except SettingsError as error:
            log.warning("tokens not taken: those before stay", extra={"error": str(error)})
            return
        self._known.clear()
        log.info("tokens taken", extra={"tokens": len(self._tokens.by_hash)})

    def _find(self, given: str | bytes, subject: str) -> Identity:
        tokens = self._tokens
        if given and tokens is not None:
            text = given if isinstance(given, str) else given.decode("utf-8", "replace")
            if text[: len(SCHEME)].lower() != SCHEME:
                raise _refused("the authorization is no bearer token: send `Bearer TOKEN`", "NOT_A_BEARER_TOKEN")
            identity = tokens.of_token(text[len(SCHEME) :].strip())
            if identity is None:
                raise _refused("the token is none of this server's", "UNKNOWN_TOKEN")
            return identity
        if not subject:
            raise _refused(f"this server asks who calls: {_wanted(tokens, self._certificates)}", "NO_CREDENTIALS")
        if tokens is None:
            return Identity(subject)
        listed = tokens.by_subject.get(subject)
        if listed is None:
            raise _refused(
                f"the certificate's subject {subject!r} is not listed, and the call has no token",
                "UNKNOWN_SUBJECT",
                subject=subject,
            )
        return listed


def _wanted(tokens: Tokens | None, certificates: bool) -> str:
    ways = ["a token (metadata `authorization: Bearer TOKEN`)"] if tokens is not None else []
    return " or ".join([*ways, *(["a client certificate"] if certificates else [])]) + " is missing"


def _refused(sentence: str, reason: str, **variables: object) -> Unauthenticated:
    return Unauthenticated(sentence, reason=reason, metadata=variables)


def _stamp(path: str) -> object:
    if not path:
        return None
    try:
        found = os.stat(path)
    except OSError as error:
        return error.errno
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
