"""A server, the contract's files, and a table of what the languages did."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.languages.languages import BUILT, ROOT, Replayed
from tests.server.server_process import environment, process

REPLAYED: list[Replayed] = []


@pytest.fixture(scope="session")
def every(request: pytest.FixtureRequest) -> bool:
    """Whether nothing may be missing."""
    found: bool = request.config.getoption("--every-client")
    return found


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    with process("--listen", "127.0.0.1:0") as (_, address):
        yield address


@pytest.fixture(scope="session")
def proto() -> Path:
    """The folder that `lossd proto` writes. Rewritten only where it differs, so that nothing is built anew for it."""
    folder, fresh = BUILT / "proto", BUILT / "fresh-proto"
    command = [sys.executable, "-m", "lossd", "proto", str(fresh)]
    subprocess.run(command, cwd=ROOT, env=environment(), check=True, stdout=subprocess.DEVNULL)
    for path in fresh.rglob("*.proto"):
        there = folder / path.relative_to(fresh)
        if not there.exists() or there.read_bytes() != path.read_bytes():
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="session")
def replayed() -> list[Replayed]:
    """What the table is made of."""
    return REPLAYED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not REPLAYED:
        return
    terminalreporter.section("languages")
    terminalreporter.write_line(f"{'language':<10}{'passed':>8}{'failed':>8}{'build':>9}{'tests':>9}{'lines':>8}")
    for one in REPLAYED:
        terminalreporter.write_line(
            f"{one.language.folder:<10}{one.passed:>8}{one.failed:>8}{one.build_s:>7.1f} s{one.test_s:>7.1f} s"
            f"{one.language.lines():>8}"
        )
