"""A server on each front, and Triton's client in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lossd_server.config.settings import FRONTS
from tests.server.server_process import process
from tests.waiting import WAIT_S

ROOT = Path(__file__).parents[2]
TRITON_PYTHON = ROOT / ".venv/tritonclient/bin/python"
CALLS = Path(__file__).with_name("triton_calls.py")

# Makes the calls of a way, and gives what came back.
TritonCalls = Callable[[str, list[Any]], Any]


@pytest.fixture(scope="session")
def triton_python() -> Path:
    """`make .venv/tritonclient/made` puts it there; without it nothing is tested, but for CI, where that fails."""
    if not TRITON_PYTHON.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{TRITON_PYTHON} is missing: make .venv/tritonclient/made")
        pytest.skip("Triton's client is not installed: make .venv/tritonclient/made")
    return TRITON_PYTHON


@pytest.fixture(scope="session", params=FRONTS)
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    """Of a server on each front, or on the one that --front names."""
    if request.config.getoption("--front") not in ("", request.param):
        pytest.skip("the other front was asked for")
    with process("--listen", "127.0.0.1:0", "--front", request.param) as (_, found):
        yield found


@pytest.fixture
def calls(address: str, triton_python: Path, tmp_path: Path) -> TritonCalls:
    return lambda way, cases: triton_calls(triton_python, tmp_path, address, way, cases)


def triton_calls(python: Path, folder: Path, address: str, way: str, cases: list[Any], **client: Any) -> Any:
    """What came back. client: arguments of Triton's client. folder: for what goes there and back."""
    read, written = folder / "cases.json", folder / "results.json"
    read.write_text(json.dumps(cases), encoding="utf-8")
    done = subprocess.run(
        [python, CALLS, address, way, read, written, json.dumps(client)],
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=2 * WAIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(written.read_text(encoding="utf-8"))
