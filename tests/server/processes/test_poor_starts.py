"""Starts of `lossd serve` without the memory for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.server.server_process import environment
from tests.waiting import WAIT_S

# A server for whose buffers there is no memory: its backend's, or those of what stands on the backend.
POOR = """
import sys

import lossd_server.server
from lossd_server import serve


def poor(*_, **__):
    raise MemoryError


if sys.argv[1] == "backend":
    serve.create = poor
else:
    lossd_server.server.Intake = poor
if __name__ == "__main__":
    sys.exit(serve.main(["--device", "cpu", "--listen", "127.0.0.1:0", "--workers", sys.argv[2]]))
"""


@pytest.mark.parametrize("lacking", ["backend", "intake"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_memory_to_start(tmp_path: Path, lacking: str, workers: str) -> None:
    """It is said in one line, by a server alone and by a worker of several, and the status is 1."""
    program = tmp_path / "poor.py"
    program.write_text(POOR)
    done = subprocess.run(
        [sys.executable, str(program), lacking, workers],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )

    assert done.returncode == 1
    assert "there is not enough memory" in done.stderr
    assert "Traceback" not in done.stderr
