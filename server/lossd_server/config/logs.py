"""Logs: events with fields, one line each, to standard error. Never tensors, never secrets."""

from __future__ import annotations

import json
import logging
import sys
import time

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LogFormatter(logging.Formatter):
    """`time level event key=value …`, or the same as one JSON object."""

    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        fields = {"time": moment, "level": record.levelname.lower(), "event": record.getMessage()}
        fields["logger"] = record.name
        fields.update({key: str(value) for key, value in vars(record).items() if key not in _STANDARD})
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        if self._as_json:
            return json.dumps(fields)
        named = (f"{key}={_quoted(value)}" for key, value in fields.items() if key not in ("time", "level"))
        return " ".join((fields["time"], fields["level"], *named))


class AbandonedCallFilter(logging.Filter):
    """Drops what grpc.aio says, with a traceback, of every client that went away before its answer was written."""

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.exc_info and record.exc_info[0]
        return not (record.name == "grpc._cython.cygrpc" and kind and kind.__name__ == "ExecuteBatchError")


def configure(level: str, form: str) -> None:
    """Sends every logger's records of at least `level` to standard error, as "text" or "json" lines."""
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(LogFormatter(form == "json"))
    stream.addFilter(AbandonedCallFilter())
    root = logging.getLogger()
    root.handlers[:] = [stream]
    root.setLevel(level.upper())


def _quoted(value: str) -> str:
    return value if value.isprintable() and " " not in value and "=" not in value else json.dumps(value)
