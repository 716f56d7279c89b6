"""Certificate expiry: when certificates of a file end, and warnings of those that will soon.

Python's ssl tells the dates of a certificate that it has verified, not those of one that it shows.
"""

from __future__ import annotations

import logging
import re
from base64 import b64decode
from collections.abc import Mapping
from datetime import UTC, datetime

log = logging.getLogger(__name__)

DAY_S = 86_400.0
WARN_S = 14 * DAY_S
_PEM = re.compile(rb"-----BEGIN [A-Z0-9 ]*CERTIFICATE-----(.*?)-----END", re.DOTALL)
# DER's tags, and how the two that are a time are written: RFC 5280, 4.1.2.5.
_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18
_TIMES = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}
_SHORT_YEARS_TO = 2050  # in two digits, so what Python reads as 2050 to 2068 is a hundred years earlier


def earliest_end(pem: bytes) -> float | None:
    """When the first of the file's certificates ends, in Unix seconds.

    None where there is none whose dates can be read: OpenSSL takes forms that nobody writes.
    """
    found = []
    for text in _PEM.findall(pem):
        try:
            found.append(_end(b64decode(text)))
        except (ValueError, IndexError):
            continue
    return min(found, default=None)


class ExpiryWarnings:
    """Told of when certificates end, it logs which of them do soon, or have: once, then once a day."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[float, float]] = {}

    def check(self, ends: Mapping[str, float], now_s: float) -> None:
        """ends: by setting. now_s: Unix seconds."""
        for setting, end_s in ends.items():
            told_of, told_s = self._told.get(setting, (0.0, 0.0))
            if end_s - now_s >= WARN_S or (told_of == end_s and abs(now_s - told_s) < DAY_S):
                continue
            self._told[setting] = end_s, now_s
            end = datetime.fromtimestamp(end_s, UTC)
            said = "a certificate has expired" if end_s <= now_s else "a certificate expires soon"
            fields = {"setting": setting, "expires": f"{end:%Y-%m-%dT%H:%M:%SZ}"}
            log.warning(said, extra=fields | {"days_left": int((end_s - now_s) // DAY_S)})


def _end(der: bytes) -> float:
    """notAfter of one certificate. Raises ValueError or IndexError for what is none."""
    _, at, _ = _element(der, 0)  # Certificate
    _, at, _ = _element(der, at)  # its TBSCertificate
    tag, _, after = _element(der, at)
    if tag == _VERSION:
        at = after
    for _ in range(3):  # serial number, signature's algorithm, issuer
        _, _, at = _element(der, at)
    tag, at, _ = _element(der, at)  # validity
    if tag != _SEQUENCE:
        raise ValueError("no validity")
    _, _, at = _element(der, at)  # notBefore
    tag, at, after = _element(der, at)
    end = datetime.strptime(der[at:after].decode("ascii"), _TIMES.get(tag, "")).replace(tzinfo=UTC)
    if tag == _UTC_TIME and end.year >= _SHORT_YEARS_TO:
        end = end.replace(year=end.year - 100)
    return end.timestamp()


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Of the one that begins there: its tag, where its content begins, and where it ends."""
    tag, size = der[at], der[at + 1]
    at += 2
    if size & 0x80:
        more = size & 0x7F
        size = int.from_bytes(der[at : at + more])
        at += more
    return tag, at, at + size
