"""`benchmarks/gpu_all.sh`, which measures a GPU unattended, by a pretended Python: its order, limits and words."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.waiting import WAIT_S, until

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "gpu_all.sh"
PARTS = ["correctness", "tests", "kernels", "ragged", "requests", "peers"]
# Says what it was asked for. What it does then, by its part, the environment says: BREAKS, HANGS.
PYTHON = """#!/bin/sh
case "$*" in
    benchmarks/gpu_record.py) part=machine ;;
    benchmarks/gpu.py*) part=$3 ;;
    "-m pytest"*) part=tests ;;
esac
echo "$part ${TRITON_INTERPRET-}" >>"$ASKED"
echo "{}"
[ "$part" != "${BREAKS-}" ] || { echo "what is wrong" >&2; exit 3; }
[ "$part" != "${HANGS-}" ] || exec tail -f /dev/null
"""


class PretendedRun:
    """A run of the program in `folder`."""

    def __init__(self, folder: Path, arguments: Sequence[str] | None = None, **environ: str) -> None:
        python = folder / "python"
        python.write_text(PYTHON)
        python.chmod(0o700)
        self.out, self._asked = folder / "out", folder / "asked"
        self.child = subprocess.Popen(
            [PROGRAM, *([str(self.out)] if arguments is None else arguments)],
            env=os.environ | {"GPU_PYTHON": str(python), "ASKED": str(self._asked), "TRITON_INTERPRET": "1"} | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.output = self.errors = ""

    def ended(self) -> int:
        """Its exit status; what it wrote is known then."""
        self.output, self.errors = self.child.communicate(timeout=WAIT_S)
        return self.child.returncode

    def asked(self) -> list[str]:
        """What was begun so far: parts, and what of TRITON_INTERPRET they saw."""
        return self._asked.read_text().splitlines() if self._asked.exists() else []

    def outcomes(self) -> dict[str, str]:
        """By part, as the summary has them."""
        lines = (self.out / "summary.txt").read_text().splitlines()[1:]
        return {line[:12].strip(): line[13:41].strip() for line in lines}


def test_the_order(tmp_path: Path) -> None:
    """The machine first, correctness before every figure, each part once, none under the interpreter."""
    run = PretendedRun(tmp_path)

    assert run.ended() == 0, run.errors
    assert run.asked() == [f"{part} " for part in ["machine", *PARTS]]
    assert run.outcomes() == dict.fromkeys(PARTS, "done")
    assert {path.name for path in run.out.iterdir()} >= {f"{part}.log" for part in PARTS} | {"machine.json"}
    assert run.output.endswith((run.out / "summary.txt").read_text())


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_fails(tmp_path: Path, part: str) -> None:
    """It is named, the others go on, and the exit status tells."""
    run = PretendedRun(tmp_path, BREAKS=part)

    assert run.ended() == 1
    assert run.outcomes() == {**dict.fromkeys(PARTS, "done"), part: "failed, status 3"}
    assert "what is wrong" in (run.out / f"{part}.log").read_text()


def test_a_part_that_takes_too_long(tmp_path: Path) -> None:
    """It ends when its time is over, of which the others lose nothing."""
    run = PretendedRun(tmp_path, HANGS="correctness", GPU_SECONDS="20")

    assert run.ended() == 1
    assert run.outcomes() == {**dict.fromkeys(PARTS, "done"), "correctness": "out of time after 4 s"}


def test_a_run_that_is_stopped(tmp_path: Path) -> None:
    """What runs is ended, nothing else begins, and the summary says so."""
    run = PretendedRun(tmp_path, HANGS="kernels")
    until(lambda: "kernels " in run.asked(), "the part has begun")
    run.child.send_signal(signal.SIGTERM)

    assert run.ended() == 1
    rest = dict.fromkeys(["ragged", "requests", "peers"], "not begun: stopped")
    assert run.outcomes() == {"correctness": "done", "tests": "done", "kernels": "stopped", **rest}


def test_no_gpu(tmp_path: Path) -> None:
    """Nothing begins where the machine's device cannot be told; the last word of whoever asked is shown."""
    run = PretendedRun(tmp_path, BREAKS="machine")

    assert run.ended() == 2
    assert run.errors == "what is wrong\n"
    assert run.asked() == ["machine "]


@pytest.mark.parametrize(
    "arguments, environ, sentence",
    [
        ([], {}, "usage: benchmarks/gpu_all.sh FOLDER"),
        (["a", "b"], {}, "usage: benchmarks/gpu_all.sh FOLDER"),
        (["--help"], {}, "usage: benchmarks/gpu_all.sh FOLDER"),
        (None, {"GPU_SECONDS": "ten"}, "GPU_SECONDS = ten is not a number of seconds"),
    ],
)
def test_wrong_usage(tmp_path: Path, arguments: list[str] | None, environ: dict[str, str], sentence: str) -> None:
    """It is told, and nothing is made."""
    run = PretendedRun(tmp_path, arguments, **environ)

    assert run.ended() == 2
    assert run.errors == f"{sentence}\n"
    assert not run.asked()
