"""Standard streams of the commands: readers that go away, full disks, narrow encodings, closed streams."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from lossd.command_line.standard_streams import BROKEN_PIPE
from lossd_server.embedded import EmbeddedServer
from tests.waiting import WAIT_S

SERVER = "--server ADDRESS"
HELP = ["--help", "eval --help", "bench --help", "serve --help", "warmup --help", "health --help", "info --help"]
ANSWERS = [
    "--version",
    f"health {SERVER}",
    f"info {SERVER}",
    f"info --json {SERVER}",
    f"eval entropy --input p.npy {SERVER}",
    f"eval entropy --input p.npy --json {SERVER}",
    f"bench --concurrency 1 --window-s 0.02 --max-s 0.05 {SERVER}",
    f"bench --concurrency 1 --window-s 0.02 --max-s 0.05 --json - {SERVER}",
]
# Of these the mistake is what is printed, on stderr.
MISTAKES = ["fly", "eval", "bench --rate x", "serve --x", "eval entropy --input none.npy"]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with EmbeddedServer() as server:
        yield server.address


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / "p.npy", np.full((2, 2), 0.5))
    return tmp_path


def start(
    command: str,
    address: str,
    folder: Path,
    variables: Mapping[str, str] | None = None,
    module: str = "lossd",
    **streams: int,
) -> subprocess.CompletedProcess[bytes]:
    """`lossd COMMAND` in a process of its own."""
    found = {name: value for name, value in os.environ.items() if name not in ("PYTHONIOENCODING", "PYTHONUNBUFFERED")}
    found |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **(variables or {})}
    words = [sys.executable, "-m", module, *command.replace("ADDRESS", address).split()]
    return subprocess.run(words, cwd=folder, env=found, check=False, timeout=2 * WAIT_S, **streams)  # type: ignore[call-overload, no-any-return]


@pytest.fixture
def unread() -> Iterator[int]:
    """A pipe whose reader has gone."""
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("command", [*HELP, *ANSWERS, "warmup"])
def test_a_reader_that_has_seen_enough(command: str, unbuffered: str, address: str, folder: Path, unread: int) -> None:
    """`lossd COMMAND | head -0` ends as programs do that SIGPIPE ends: with its status, and without a word."""
    ended = start(command, address, folder, {"PYTHONUNBUFFERED": unbuffered}, stdout=unread, stderr=subprocess.PIPE)

    assert ended.returncode == BROKEN_PIPE
    # A bench tells its progress there.
    assert [line for line in ended.stderr.splitlines() if not line.startswith(b"concurrency ")] == []


def test_the_servers_own_module_is_no_other_command(address: str, folder: Path, unread: int) -> None:
    """`python -m lossd_server` is `lossd serve`."""
    ended = start("--help", address, folder, module="lossd_server", stdout=unread, stderr=subprocess.PIPE)

    assert (ended.returncode, ended.stderr) == (BROKEN_PIPE, b"")


@pytest.mark.parametrize("command", [*MISTAKES, "--help"])
def test_a_reader_of_both_streams_that_has_gone(command: str, address: str, folder: Path, unread: int) -> None:
    """`lossd COMMAND 2>&1 | head -0`: nothing can be said, so the status says it."""
    assert start(command, address, folder, stdout=unread, stderr=unread).returncode == BROKEN_PIPE


@pytest.mark.parametrize("command", ["--help", "eval --help", f"info {SERVER}", f"eval entropy --input p.npy {SERVER}"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here is always full")
def test_a_full_disk_is_said(command: str, address: str, folder: Path) -> None:
    """In one line; exit status 1."""
    with Path("/dev/full").open("wb") as full:
        ended = start(command, address, folder, stdout=full.fileno(), stderr=subprocess.PIPE)

    assert (ended.returncode, ended.stderr.count(b"\n")) == (1, 1)
    assert ended.stderr.startswith(b"lossd")
    assert ended.stderr.endswith(b": No space left on device\n")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
@pytest.mark.parametrize("command", [*HELP, *ANSWERS[-4:]])
def test_a_narrow_encoding_is_enough(command: str, encoding: str, address: str, folder: Path) -> None:
    """What it lacks is said in plainer characters."""
    ended = start(command, address, folder, {"PYTHONIOENCODING": encoding}, capture_output=True)

    assert ended.returncode == 0
    assert ended.stdout.decode(encoding)
    assert b"Traceback" not in ended.stderr


def test_what_ascii_lacks_is_said_plainly(address: str, folder: Path) -> None:
    """Dots for an ellipsis, and file names so that each can be told from others; under the C locale, too."""
    (folder / "p.npy").rename(folder / "pé….npy")
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

    helped = start("bench --help", address, folder, plain, capture_output=True)
    ascii = {"PYTHONIOENCODING": "ascii"}
    named = start(f"eval entropy --input pé….npy {SERVER}", address, folder, ascii, capture_output=True)
    absent = start("eval entropy --input é….npy", address, folder, ascii, capture_output=True)

    assert b"--shape NxC,...  " in helped.stdout
    assert named.stdout.startswith(b"entropy of p\\xe9....npy\n")
    assert absent.stderr == b"lossd eval: \\xe9....npy: no such file\n"


@pytest.mark.parametrize("closed", ["stdout", "stderr", "both"])
@pytest.mark.parametrize(
    "command, status", [(f"eval entropy --input p.npy {SERVER}", 0), ("eval entropy --input x", 1)]
)
def test_streams_that_are_closed_are_not_missed(
    command: str, status: int, closed: str, address: str, folder: Path
) -> None:
    """`lossd COMMAND >&- 2>&-`: the status is as ever, and the other stream's text."""
    words = [sys.executable, "-m", "lossd", *command.replace("ADDRESS", address).split()]
    ends = {"stdout": ">&-", "stderr": "2>&-", "both": ">&- 2>&- <&-"}[closed]
    found = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    shell = ["sh", "-c", f'exec "$@" {ends}', "sh", *words]
    ended = subprocess.run(shell, cwd=folder, env=found, capture_output=True, check=False, timeout=2 * WAIT_S)

    assert ended.returncode == status
    assert bool(ended.stdout) == (status == 0 and closed == "stderr")
    assert bool(ended.stderr) == (status == 1 and closed == "stdout")
