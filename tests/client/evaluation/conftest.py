"""`lossd eval` in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from lossd import cli
from lossd_server.embedded import EmbeddedServer


class Ended(NamedTuple):
    """A command that has ended."""

    status: int
    out: str
    err: str


Evaluated = Callable[..., Ended]


@pytest.fixture(scope="package")
def served() -> Iterator[str]:
    with EmbeddedServer() as server:
        yield server.address


@pytest.fixture
def evaluated(
    served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Evaluated:
    """Runs `lossd eval` in `tmp_path`."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Ended:
        status = cli.main(["eval", *arguments, "--server", served])
        return Ended(status, *capsys.readouterr())

    return run
