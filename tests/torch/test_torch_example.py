"""examples/train_digits.py, run for an epoch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import WAIT_S

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/train_digits.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "MPLBACKEND": "agg"}
    command = [sys.executable, str(EXAMPLE), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=2 * WAIT_S, check=False)


def test_the_curves_are_the_same(tmp_path: Path) -> None:
    """One epoch by each way: a line each, the same loss and accuracy, and a picture."""
    pytest.importorskip("sklearn")
    picture = tmp_path / "curves.png"
    done = run("--epochs", "1", "--plot", str(picture))

    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == ["loss", "local", "remote", "functional", "The"]
    assert len({tuple(line[1:5]) for line in lines[1:4]}) == 1
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_server_that_is_not_there() -> None:
    """A sentence, and exit status 1."""
    pytest.importorskip("sklearn")
    done = run("--epochs", "1", "--server", "127.0.0.1:9")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("The server could not be used: ")
    assert "lossd serve" in done.stderr
