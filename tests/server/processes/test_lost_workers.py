"""Workers that are lost, or stand still, while a server starts and afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.server.processes.test_starts import alive, answers
from tests.server.server_process import environment
from tests.waiting import WAIT_S, until

# One whose first worker is killed before it has said a word.
LOST_ONCE = """
import sys

from lossd_server import serve
from lossd_server.processes import supervisor

spawned = supervisor.Supervisor._spawned
starts = []


def lost_once(self, index):
    pipe, process = spawned(self, index)
    starts.append(index)
    if len(starts) == 1:
        process.kill()
    return pipe, process


supervisor.Supervisor._spawned = lost_once
if __name__ == "__main__":
    sys.exit(serve.main(["--device", "cpu", "--listen", "127.0.0.1:0", "--workers", "2", "--drain-s", "5"]))
"""


def test_a_worker_that_is_lost_before_it_answers(tmp_path: Path) -> None:
    """It is started again, and the server comes up."""
    program = tmp_path / "unlucky.py"
    program.write_text(LOST_ONCE)
    child = subprocess.Popen(
        [sys.executable, str(program)], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    address = child.stdout.readline().removeprefix("listening on ").strip()
    found = answers(address) if address else False
    child.terminate()
    _, said = child.communicate(timeout=WAIT_S)

    assert found, said
    assert child.returncode == 0
    assert "Traceback" not in said


# A server of two workers whose supervisor looks often, and cannot start the first worker that it starts again.
IMPATIENT = """
import sys

from lossd_server import serve
from lossd_server.processes import supervisor

supervisor.LOOK_S, supervisor.STALLED_S = 0.1, 2.0
spawned = supervisor.Supervisor._spawned
starts = []


def failing_once(self, index):
    starts.append(index)
    if len(starts) == 3:
        raise OSError(24, "Too many open files")
    return spawned(self, index)


supervisor.Supervisor._spawned = failing_once
if __name__ == "__main__":
    sys.exit(serve.main(["--device", "cpu", "--listen", "127.0.0.1:0", "--workers", "2", "--drain-s", "5"]))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_is_lost_or_stands_still(tmp_path: Path, number: signal.Signals) -> None:
    """It is replaced, though a first try finds no room for it; meanwhile the other one answers."""
    program = tmp_path / "impatient.py"
    program.write_text(IMPATIENT)
    child = subprocess.Popen(
        [sys.executable, str(program)], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stderr is not None
    address = child.stdout.readline().removeprefix("listening on ").strip()
    lines: list[str] = []
    reading = threading.Thread(target=lambda: lines.extend(child.stderr or ()), daemon=True)
    reading.start()
    workers = [
        int(one)
        for one in Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()
    ]
    os.kill(workers[0], number)
    until(lambda: any("worker not started" in line for line in lines), "the first try fails")
    until(lambda: not alive(workers[0]), "the worker is gone")
    first = answers(address)
    other = alive(workers[1])
    child.terminate()
    status = child.wait(WAIT_S)
    reading.join(WAIT_S)
    child.stdout.close()
    child.stderr.close()

    assert first
    assert other
    assert status == 0
    assert any("Too many open files" in line for line in lines)
