"""Token in a file, as secrets are mounted: read for each call, so that one that is replaced needs no new client."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

from lossd.errors import InvalidArgument

Authorization = tuple[()] | tuple[tuple[str, str]]

# RFC 6750, 2.1, without a bound; what else a header would take is no token that anybody makes.
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
# More is no token: a header would not take it.
_MOST_BYTES = 16_384


def bearer(token: str) -> Authorization:
    """The metadata of a call that shows the token."""
    return (("authorization", f"Bearer {token}"),)


@dataclass(slots=True)
class MountedToken:
    """path: of the file, which holds the token and perhaps a line end.

    Reading it costs 4 µs, to ask whether it has changed would be half of that, and wrong where it changes twice within
    the clock of the file system.
    """

    path: str
    _last: tuple[bytes | None, Authorization] = field(default=(None, ()), init=False, repr=False, compare=False)

    def authorization(self) -> Authorization:
        """The metadata of a call that begins now.

        InvalidArgument where the file cannot be read, or holds no token. Once it was read that changes nothing: the
        token goes on, since whoever replaces a file may leave it empty, or away, for a moment.
        """
        content, known = self._last
        try:
            found = self._read()
            if found != content:
                self._last = found, self._parsed(found)
        except InvalidArgument:
            if not known:
                raise
        return self._last[1]

    def _read(self) -> bytes:
        try:
            file = os.open(self.path, os.O_RDONLY)
            try:
                return os.read(file, _MOST_BYTES + 1)
            finally:
                os.close(file)
        except (OSError, ValueError) as error:  # ValueError: a path that has a NUL
            said = getattr(error, "strerror", None) or str(error)
            raise self._refused(f"cannot be read: {said}") from None

    def _parsed(self, content: bytes) -> Authorization:
        if not content.strip():
            raise self._refused("is empty")
        token = content.decode("latin-1").strip()
        if len(content) > _MOST_BYTES or not TOKEN.fullmatch(token):
            raise self._refused("holds something else than one token")
        return bearer(token)

    def _refused(self, what: str) -> InvalidArgument:
        sentence = f"token_file = {self.path!r} {what}"
        return InvalidArgument(sentence, field="token_file", reason="UNREADABLE_FILE")

    def __reduce__(self) -> tuple[type[MountedToken], tuple[str]]:
        """A pickle has the path alone: whoever opens it reads the file."""
        return MountedToken, (self.path,)
