"""Callers: which identity a call has, by its token or by its connection's certificate."""

from __future__ import annotations

import logging

from lossd_server.call.contract import Metadata
from lossd_server.call.identity import Identity
from lossd_server.config.settings import Settings, SettingsError
from lossd_server.errors import Unauthenticated
from lossd_server.identity.file_stamp import file_stamp
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
        self._paths = (tokens,) if tokens else ()
        self._stamp = self._told = file_stamp(*self._paths)
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
        """Reads the file again if it has changed since it was taken. One that cannot be read changes nothing.

        It is read again then at each look, and told of once: descriptors or memory may be short for a moment, and a
        token that was taken away must not live on for that.
        """
        stamp = file_stamp(*self._paths)
        if stamp == self._stamp:
            return
        try:
            self._tokens = read_tokens(*self._paths)
        except (SettingsError, MemoryError) as error:
            if stamp != self._told:
                self._told = stamp
                log.warning("tokens not taken: those before stay", extra={"error": str(error)})
            return
        self._stamp = self._told = stamp
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
