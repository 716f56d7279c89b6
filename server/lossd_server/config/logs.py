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
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Any, TextIO

# Lines that wait to be written, the time that a process waits for them at its end.
MOST_LINES = 1000
FLUSH_S = 1.0

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


class BoundedHandler(logging.Handler):
    """Writes records to standard error by a thread of its own, so that a reader who stops reading stops nobody.

    While the reader does not read, the latest MOST_LINES wait and the others are counted; a line tells how many.
    """

    def __init__(self, formatter: logging.Formatter, file: int = 2) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._file = file
        self._lines: deque[str] = deque()
        self._dropped = 0
        self._changed = threading.Condition()
        self._closed = False
        self._idle = True  # nothing is being written
        self._pid = os.getpid()
        self._start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:
            line = f"a log record of {record.name} could not be formatted"
        if os.getpid() != self._pid:  # a forked child has no such thread
            self._pid = os.getpid()
            self._start()
        with self._changed:
            if len(self._lines) >= MOST_LINES:
                self._lines.popleft()
                self._dropped += 1
            self._lines.append(line)
            self._changed.notify_all()

    def flush(self) -> None:
        """Waits until all is written, at most FLUSH_S."""
        with self._changed:
            self._changed.wait_for(lambda: self._idle and not self._lines, FLUSH_S)

    def close(self) -> None:
        """Writes what there is, as `flush` does; the thread ends."""
        self.flush()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        super().close()

    def _start(self) -> None:
        threading.Thread(target=self._write, name="lossd-log", daemon=True).start()

    def _write(self) -> None:
        while True:
            with self._changed:
                self._idle = True
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._lines or self._closed)
                if not self._lines:
                    return
                lines, dropped = list(self._lines), self._dropped
                self._lines.clear()
                self._dropped = 0
                self._idle = False
            if dropped:
                record = logging.makeLogRecord({"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING"})
                record.msg, record.__dict__["lines"] = "log lines dropped: standard error was not read", dropped
                lines.insert(0, self.format(record))
            data = "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")
            with suppress(OSError):  # closed, or a full disk: there is nobody to tell
                while data:
                    data = data[os.write(self._file, data) :]


class AbandonedCallFilter(logging.Filter):
    """Drops grpc.aio's record, with a traceback, of each client that went away before its answer was written."""

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.exc_info and record.exc_info[0]
        return not (record.name == "grpc._cython.cygrpc" and kind and kind.__name__ == "ExecuteBatchError")


def configure(level: str, form: str) -> None:
    """Sends every logger's records of at least `level` to standard error, as "text" or "json" lines.

    Libraries log at "info" and above: numba alone has thousands of debug records for each kernel. Nobody waits for
    standard error: see BoundedHandler. gRPC's core, which can only write plain text and would wait, is silent unless
    GRPC_VERBOSITY is set. With "json", warnings and exceptions that nobody caught become records too.
    """
    handler = BoundedHandler(LogFormatter(form == "json"))
    handler.addFilter(AbandonedCallFilter())
    root = logging.getLogger()
    for replaced in root.handlers:
        replaced.close()
    root.handlers[:] = [handler]
    own = logging.getLogger("lossd_server")
    own.setLevel(level.upper())
    root.setLevel(max(own.level, logging.INFO))
    # Core writes by itself, from the event loop's thread: a reader who stops reading would stop the server.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    if form == "json":
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
