"""Cache of compiled functions on disk: numba's, with a checksum on every file, and never the reason for a failure.

A file may be cut short by a crash or a full disk. What numba would read from it is machine code and pickles: so nothing
is read whose checksum is wrong. It is then compiled anew, and written again where that can be.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
from collections.abc import Callable
from typing import Any

from numba.core.caching import FunctionCache, IndexDataCacheFile

log = logging.getLogger(__name__)

# Called with a function's name when it is about to be compiled, for it was not in the cache.
on_miss: list[Callable[[str], None]] = []


class KernelCache(FunctionCache):  # type: ignore[misc]  # numba has no types
    """Of one function."""

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._function = function.__name__
        self._cache_file = CheckedFile(
            cache_path=self._cache_path,
            filename_base=self._impl.filename_base,
            source_stamp=self._impl.locator.get_source_stamp(),
        )

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            found = super().load_overload(sig, target_context)
        except Exception as error:
            log.warning("kernel cache not read", extra={"function": self._function, "error": repr(error)})
            found = None
        if found is None:
            for listener in on_miss:
                listener(self._function)
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:  # a full disk; the next process compiles once more
            log.warning("kernel cache not written", extra={"function": self._function, "error": str(error)})


class CheckedFile(IndexDataCacheFile):  # type: ignore[misc]  # numba has no types
    """numba's pair of files, each behind its SHA-256. A damaged one is as good as none."""

    def _load_index(self) -> Any:
        payload = _read(self._index_path)
        if payload is None:
            return {}
        version, stamp, overloads = pickle.loads(payload)
        return overloads if (version, stamp) == (self._version, self._source_stamp) else {}

    def _save_index(self, overloads: Any) -> None:
        self._write(self._index_path, self._dump((self._version, self._source_stamp, overloads)))

    def _load_data(self, name: str) -> Any:
        payload = _read(self._data_path(name))
        if payload is None:
            raise OSError(f"{name} is damaged")  # which numba takes for a file that has gone
        return pickle.loads(payload)

    def _save_data(self, name: str, data: Any) -> None:
        self._write(self._data_path(name), self._dump(data))

    def _write(self, path: str, payload: bytes) -> None:
        with self._open_for_write(path) as file:
            file.write(hashlib.sha256(payload).digest())
            file.write(payload)


def _read(path: str) -> bytes | None:
    """What is behind the checksum of a file; None where there is no such file, or it is not what was written."""
    try:
        with open(path, "rb") as file:
            digest, payload = file.read(hashlib.sha256().digest_size), file.read()
    except OSError:
        return None
    return payload if hashlib.sha256(payload).digest() == digest else None
