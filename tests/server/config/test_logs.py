"""What is logged, and what is not."""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from pathlib import Path

import pytest

from lossd_server.config import logs
from tests.client.programs import run
from tests.waiting import until

# What libraries and the interpreter itself write beside our own events: each in its own way.
OTHERS = """
    import asyncio, logging, sys, threading, warnings
    import grpc.aio, numba
    from lossd_server.config import logs

    logging.getLogger("numba.with.its.own").addHandler(logging.StreamHandler())
    logs.configure("info", "json")
    logging.getLogger("lossd_server").info("ours", extra={"count": 3, "part": 0.5, "ok": True, "nothing": None})
    logging.getLogger("lossd_server").info("odd", extra={"ratio": float("nan"), "error": OSError("two\\nlines")})
    logging.getLogger("grpc._server").error("grpc", exc_info=ValueError("x"))
    logging.getLogger("numba.with.its.own").warning("numba")
    warnings.warn("careful", RuntimeWarning)

    async def lost():
        asyncio.get_running_loop().call_exception_handler({"message": "asyncio"})

    asyncio.run(lost())
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()

    class Dying:
        def __del__(self):
            raise KeyError("in __del__")

    Dying()
    raise SystemError("at the end")
"""


class ExecuteBatchError(Exception):
    """As grpc.aio's, which nobody outside it can import."""


def test_a_client_that_went_away_is_no_error(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What grpc.aio logs of an answer that nobody takes any more is left out; everything else of it is there."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging.getLogger(), "level", logging.INFO)
    monkeypatch.setattr(logging.getLogger("lossd_server"), "level", logging.NOTSET)
    logs.configure("info", "text")
    core = logging.getLogger("grpc._cython.cygrpc")
    core.error("gone", exc_info=ExecuteBatchError())
    core.error("broken", exc_info=ValueError())
    core.error("plain")

    logging.getLogger().handlers[0].close()

    said = capfd.readouterr().err
    assert "gone" not in said
    assert "broken" in said
    assert "plain" in said


def test_json_logs_are_json_whoever_writes() -> None:
    """Libraries, warnings, threads, finalizers and the traceback at the end: one object a line."""
    lines = [json.loads(line) for line in run(OTHERS).stderr.splitlines()]

    events = [line["event"] for line in lines]
    assert events == ["ours", "odd", "grpc", "numba", "careful", "asyncio", *["uncaught exception"] * 3]
    assert lines[4]["category"] == "RuntimeWarning"
    ends = [line["traceback"].splitlines()[-1].partition(":")[0] for line in lines[-3:]]
    assert ends == ["ZeroDivisionError", "KeyError", "SystemError"]


def test_json_numbers_are_numbers() -> None:
    """So are truth values and null; what JSON has no value for is text."""
    ours, odd = [json.loads(line) for line in run(OTHERS).stderr.splitlines()[:2]]

    assert [ours[name] for name in ("count", "part", "ok", "nothing")] == [3, 0.5, True, None]
    assert [odd["ratio"], odd["error"]] == ["nan", "two\nlines"]


def test_debug_is_the_servers_own() -> None:
    """What libraries say for their own developers is left out, and their warnings are not."""
    done = run("""
        import logging
        from lossd_server.config import logs

        logs.configure("debug", "json")
        for name in ("lossd_server.rpc", "numba.core.ssa"):
            for level in (logging.DEBUG, logging.WARNING):
                logging.getLogger(name).log(level, "x")
    """)

    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["logger"], line["level"]) for line in lines] == [
        ("lossd_server.rpc", "debug"),
        ("lossd_server.rpc", "warning"),
        ("numba.core.ssa", "warning"),
    ]


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_server_that_cannot_start_says_so_in_its_format(form: str, tmp_path: Path) -> None:
    """A sentence for a person, an object for a program; the exit status is 1."""
    flags = ["serve", "--device", "cpu", "--listen", f"unix:{tmp_path}/missing/socket", "--log-format", form]
    done = run(f"import sys; from lossd.cli import main; sys.exit(main({flags}))")

    last = done.stderr.splitlines()[-1]
    sentence = json.loads(last)["reason"] if form == "json" else last.removeprefix("lossd serve: ")
    assert done.returncode == 1
    assert sentence == f"cannot listen on {tmp_path}/missing/socket: there is no folder {tmp_path}/missing"
    assert form == "text" or all(json.loads(line) for line in done.stderr.splitlines())


def test_a_reader_who_stops_reading() -> None:
    """While nobody reads, the latest lines are kept, and a line tells how many were dropped; nobody waits."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    handler = logs.BoundedHandler(logging.Formatter("%(message)s"), writer)
    handler.emit(logging.makeLogRecord({"msg": "taken"}))  # by the thread, which waits with it
    until(lambda: not handler._lines, "the thread has taken the first line")
    for number in range(logs.MOST_LINES + 7):
        handler.emit(logging.makeLogRecord({"msg": str(number)}))
    found = bytearray()
    while not found.endswith(f"{logs.MOST_LINES + 6}\n".encode()):
        found += os.read(reader, 1 << 16)
    handler.close()
    os.close(reader)
    os.close(writer)

    lines = found.lstrip(b"\0").decode().splitlines()
    assert lines[:3] == ["taken", "log lines dropped: standard error was not read", "7"]
    assert len(lines) == 2 + logs.MOST_LINES
