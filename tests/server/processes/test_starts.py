"""Starts and ends of `lossd serve` where something is the matter: nothing of it takes the server down."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from lossd.v1.service_pb2_grpc import LossServiceStub
from tests.server.messages import cross_entropy
from tests.server.server_process import command, environment, process, run
from tests.waiting import WAIT_S, until


def answers(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        answer = LossServiceStub(channel).CrossEntropy(cross_entropy(), timeout=WAIT_S, wait_for_ready=True)
        return bool(answer.summary.count == 4)


def listening(folder: Path) -> list[str]:
    return ["--listen", f"unix:{folder}/socket"]


@contextmanager
def started(folder: Path, **given: object) -> Iterator[subprocess.Popen[bytes]]:
    """A server on a Unix socket of the folder, once it is there. given: for Popen."""
    env = given.pop("env", environment())
    child = subprocess.Popen(command(*listening(folder)), env=env, **given)  # type: ignore[call-overload]
    try:
        until(lambda: (folder / "socket").exists() or child.poll() is not None, "the socket is there")
        yield child
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_a_closed_standard_stream(tmp_path: Path, closed: int) -> None:
    """The server answers, and ends with 0 on SIGTERM, whichever of its standard streams was closed at the start."""
    with started(tmp_path, preexec_fn=lambda: os.close(closed)) as child:
        good = answers(f"unix:{tmp_path}/socket")
        child.terminate()

        assert good
        assert child.wait(WAIT_S) == 0


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_full_disk_behind_a_stream(tmp_path: Path, stream: str) -> None:
    """What cannot be written is not written: the server answers, and ends with 0."""
    with open("/dev/full", "wb") as full, started(tmp_path, **{stream: full}) as child:
        good = answers(f"unix:{tmp_path}/socket")
        child.terminate()

        assert good
        assert child.wait(WAIT_S) == 0


def test_a_log_that_nobody_reads(tmp_path: Path) -> None:
    """A pipe of log lines that is full holds up neither calls nor the end."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    full = 0
    try:
        while True:
            full += os.write(writer, bytes(4096))
    except BlockingIOError:
        os.set_blocking(writer, True)
    with started(tmp_path, stderr=writer, env=environment() | {"LOSSD_LOG_LEVEL": "debug"}) as child:
        with grpc.insecure_channel(f"unix:{tmp_path}/socket") as channel:
            for _ in range(50):
                malformed: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
                with pytest.raises(grpc.RpcError):
                    malformed(b"\xff", timeout=WAIT_S)
        good = answers(f"unix:{tmp_path}/socket")
        child.terminate()

        assert full > 0
        assert good
        assert child.wait(WAIT_S) == 0
    os.close(reader)
    os.close(writer)


def test_folders_of_killed_servers(tmp_path: Path) -> None:
    """The next start removes what a killed server left, and nothing of one that runs."""
    env = environment() | {"TMPDIR": str(tmp_path), "XDG_RUNTIME_DIR": ""}
    homes = [tmp_path / name for name in ("killed", "running", "new")]
    for home in homes:
        home.mkdir()
    with started(homes[0], env=env) as killed:
        assert answers(f"unix:{homes[0]}/socket")
        killed.kill()
        killed.wait()
    left = set(tmp_path.glob("lossd-*"))
    with started(homes[1], env=env), started(homes[2], env=env):
        assert answers(f"unix:{homes[1]}/socket")
        assert answers(f"unix:{homes[2]}/socket")
        there = set(tmp_path.glob("lossd-*"))

    assert len(left) == 1
    assert len(there) == 2
    assert not left & there


@pytest.mark.parametrize(
    "flags, sentence",
    [
        (["--listen", "unix:/nowhere/at/all"], "cannot listen on /nowhere/at/all: there is no folder /nowhere/at"),
        (["--listen", "unix:" + "/x" * 60], "a Unix socket's path has at most 107"),
        (["--listen", "unix:/dev/null"], "a file is there that is no socket"),
        (["--listen", "127.0.0.1:0", "--shared-memory-socket", "/nowhere/memory"], "there is no folder /nowhere"),
        (
            ["--listen", "127.0.0.1:0", "--shared-memory-socket", "/tmp/m", "--shared-memory-group", "nobodies"],
            "shared_memory_group = 'nobodies' is no group of this machine",
        ),
    ],
)
def test_what_needs_no_kernel_is_checked_first(tmp_path: Path, flags: list[str], sentence: str) -> None:
    """With no kernel compiled yet, a place that cannot be had is said in one line, before any of them is."""
    env = environment() | {"LOSSD_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(command(*flags), env=env, capture_output=True, text=True, timeout=WAIT_S, check=False)

    assert done.returncode == 1
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "flag, value",
    [
        ("--max-inflight-bytes", "9" * 23),
        ("--max-inflight-requests", "9" * 20),
        ("--max-shared-memory-bytes", "9" * 20),
        ("--max-connections", "9" * 11),
        ("--max-batch-rows", "9" * 20),
    ],
)
def test_numbers_that_cannot_be_sent(flag: str, value: str) -> None:
    """A setting that the wire or gRPC could not hold is refused in one line."""
    done = run(flag, value)

    assert done.returncode == 2
    assert "is too large" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 0), (signal.SIGHUP, 0), (signal.SIGINT, 130)])
def test_a_signal_while_kernels_are_compiled(tmp_path: Path, number: signal.Signals, status: int) -> None:
    """The process ends at once, and so does the one that compiles beside it."""
    env = environment() | {"LOSSD_CACHE_DIR": str(tmp_path)}
    child = subprocess.Popen(
        command("--listen", "127.0.0.1:0"), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert child.stderr is not None
    first = child.stderr.readline()
    threads = Path(f"/proc/{child.pid}/task")
    until(lambda: any((one / "children").read_text() for one in threads.iterdir()), "another process compiles")
    others = [int(one) for task in threads.iterdir() for one in (task / "children").read_text().split()]
    child.send_signal(number)
    ended = child.wait(WAIT_S)
    child.stderr.close()

    line = rf"lossd: compiling kernels, once for this machine, about 30 s \[1/\d+\] \({re.escape(str(tmp_path))}"
    assert re.match(line, first)
    assert ended == status
    until(lambda: not any(alive(one) for one in others), "nobody compiles any more")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_terminal_that_is_closed(tmp_path: Path) -> None:
    """SIGHUP ends a server as SIGTERM does."""
    with started(tmp_path, stderr=subprocess.PIPE) as child:
        assert answers(f"unix:{tmp_path}/socket")
        child.send_signal(signal.SIGHUP)
        _, said = child.communicate(timeout=WAIT_S)

        assert child.returncode == 0
        assert b"event=stopped" in said


def test_libraries_that_are_not_there(tmp_path: Path) -> None:
    """In the thin install `lossd serve` says in one line what to install."""
    program = "import sys; sys.modules['numba'] = None; from lossd.cli import main; sys.exit(main(['serve']))"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, timeout=WAIT_S, check=False
    )

    assert done.returncode == 1
    assert done.stderr.startswith("lossd serve needs the server's libraries: pip install")
    assert done.stderr.count("\n") == 1


def test_a_server_that_runs_is_not_disturbed() -> None:
    """The fixture of the other tests: a plain start and end."""
    with process("--listen", "127.0.0.1:0") as (child, address):
        assert answers(address)
        child.terminate()

        assert child.wait(WAIT_S) == 0
