"""What the tests of lossd.torch may ask for, and what they have compared."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import lossd
from tests.torch.tally import TALLY


@pytest.fixture(scope="module")
def client() -> Iterator[lossd.Client]:
    """Of a server in this process, one a module."""
    with lossd.Client("embedded") as client:
        yield client


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = TALLY.lines()
    if lines:
        terminalreporter.section("lossd.torch")
        for line in lines:
            terminalreporter.write_line(line)
