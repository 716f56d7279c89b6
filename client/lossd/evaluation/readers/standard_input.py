"""Standard input as a file: `-`, or `-:column`. Kept in a file while it is used, for it can be read only once."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from lossd.command_error import CommandError
from lossd.evaluation.readers.source import ArrayPath

NAME = "standard input"
# What files of each kind begin with.
_BEGINNINGS = {b"\x93NUMPY": "npy", b"PK\x03\x04": "npz", b"PAR1": "parquet"}
# A .safetensors file begins with the length of its header, which is JSON.
_SAFETENSORS_AT = 8


class StandardInput:
    """Reads it once, when `-` is first met; the file is removed at the end."""

    def __init__(self) -> None:
        self._folder: TemporaryDirectory[str] | None = None
        self._path: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def place(self, text: str) -> ArrayPath | None:
        """None where the text means a file. Raises CommandError where nothing comes."""
        if text != "-" and not text.startswith("-:"):
            return None
        path = self._path or self._saved()
        return ArrayPath(text, path, path.suffix[1:], text[2:] or None, NAME)

    def _saved(self) -> Path:
        if sys.stdin.isatty():
            raise CommandError(
                "standard input is a terminal: send a file there, as in `lossd eval … --input - < x.csv`"
            )
        self._folder = TemporaryDirectory(prefix="lossd-eval-")
        path = Path(self._folder.name) / "input"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        with path.open("rb") as file:
            start = file.read(_SAFETENSORS_AT + 1)
        if not start:
            raise CommandError("standard input is empty")
        kind = next((kind for beginning, kind in _BEGINNINGS.items() if start.startswith(beginning)), "csv")
        if kind == "csv" and start[_SAFETENSORS_AT:] == b"{" and b"\0" in start:
            kind = "safetensors"
        self._path = path.rename(path.with_suffix(f".{kind}"))
        return self._path
