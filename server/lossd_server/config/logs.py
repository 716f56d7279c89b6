"""Logging: events with fields, one line each, to standard error. Never tensors, never secrets."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import threading
import time
import warnings
from types import TracebackType
from typing import Any, TextIO

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LogFormatter(logging.Formatter):
    """`time event=… key=value …`, or the same as one JSON object, with numbers as numbers."""

    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        fields = {"time": moment, "level": record.levelname.lower(), "event": record.getMessage()}
        fields["logger"] = record.name
        fields.update({key: _plain(value) for key, value in vars(record).items() if key not in _STANDARD})
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = record.stack_info
        if self._as_json:
            return json.dumps(fields)
        named = (f"{key}={_quoted(str(value))}" for key, value in fields.items() if key not in ("time", "level"))
        return " ".join((fields["time"], fields["level"], *named))


class AbandonedCallFilter(logging.Filter):
    """Drops grpc.aio's record, with a traceback, of each client that went away before its answer was written."""

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.exc_info and record.exc_info[0]
        return not (record.name == "grpc._cython.cygrpc" and kind and kind.__name__ == "ExecuteBatchError")


def configure(level: str, form: str) -> None:
    """Sends every logger's records of at least `level` to standard error, as "text" or "json" lines.

    Libraries log at "info" and above: numba alone has thousands of debug records for each kernel. With "json", warnings
    and exceptions that nobody caught become records too, and gRPC's core, which can only write plain text, is silent
    unless GRPC_VERBOSITY is set.
    """
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(LogFormatter(form == "json"))
    stream.addFilter(AbandonedCallFilter())
    root = logging.getLogger()
    root.handlers[:] = [stream]
    own = logging.getLogger("lossd_server")
    own.setLevel(level.upper())
    root.setLevel(max(own.level, logging.INFO))
    if form == "json":
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        warnings.showwarning = _log_warning
        sys.excepthook = _log_uncaught
        threading.excepthook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)
        sys.unraisablehook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    adopt_loggers()


def adopt_loggers() -> None:
    """Removes handlers from every logger but the root, which then handles all records. torch brings handlers."""
    for logger in list(logging.Logger.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            logger.handlers[:] = []
            logger.propagate = True


def _plain(value: object) -> Any:
    """What JSON can hold: numbers, truth values and None as they are, all else as text."""
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)


def _quoted(value: str) -> str:
    return value if value.isprintable() and " " not in value and "=" not in value else json.dumps(value)


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    extra = {"category": category.__name__, "file": filename, "line": lineno}
    logging.getLogger("py.warnings").warning("%s", message, extra=extra)


def _log_uncaught(kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None) -> None:
    found = error if error is not None else kind()
    logging.getLogger(__name__).critical("uncaught exception", exc_info=(kind, found, traceback))
