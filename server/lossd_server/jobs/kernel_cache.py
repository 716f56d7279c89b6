"""Cache of compiled functions on disk: numba's, with a checksum on every file, and never the reason for a failure.

A file may be cut short by a crash or a full disk. What numba would read from it is machine code and pickles: so nothing
is read whose checksum is wrong. It is then compiled anew, and written again where that can be.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile, _CacheLocator

log = logging.getLogger(__name__)

# Called with a function's name when it is about to be compiled, for it was not in the cache.
on_miss: list[Callable[[str], None]] = []


class FixedLocator(_CacheLocator):  # type: ignore[misc]  # numba has no types
    """For what numba asks of a function's place: nothing here depends on where a source lies or when it was written,
    since the cache's folder is named after what the sources say.
    """

    def __init__(self, line: int) -> None:
        self._line = line

    def get_cache_path(self) -> str:
        return ""

    def get_source_stamp(self) -> str:
        return ""

    def get_disambiguator(self) -> str:
        return str(self._line)

    def ensure_cache_path(self) -> None:
        """It was made before."""

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> FixedLocator:
        return cls(py_func.__code__.co_firstlineno)


class FixedPlace(CompileResultCacheImpl):  # type: ignore[misc]  # numba has no types
    _locator_classes = (FixedLocator,)


class KernelCache(FunctionCache):  # type: ignore[misc]  # numba has no types
    """Of one function. folder: where it is read and written; shipped: where it is read before that."""

    _impl_class = FixedPlace

    def __init__(self, function: Any, folder: Path | None, shipped: Path | None) -> None:
        super().__init__(function)
        self._function = function.__name__
        name = self._impl.filename_base
        self._files = [CheckedFile(str(place), name, "") for place in (shipped, folder) if place is not None]
        self._cache_file = self._files[-1]
        self._written = folder is not None

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = None
        for file in self._files:
            self._cache_file = file  # the last one is written to
            try:
                found = found or super().load_overload(sig, target_context)
            except Exception as error:
                log.warning("kernel cache not read", extra={"function": self._function, "error": repr(error)})
        if found is None:
            for listener in on_miss:
                listener(self._function)
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        if not self._written:
            return
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
