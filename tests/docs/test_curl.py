"""The calls by curl in docs/ are run in a shell as a reader would run them, of a server that runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from doctest import ELLIPSIS, OutputChecker
from pathlib import Path

import pytest

from lossd_server.backends import Backend
from tests.server.http.serving_http import http_server

ROOT = Path(__file__).resolve().parent.parent.parent
# The address that documents name: the reader has a server there.
ADDRESS = "http://127.0.0.1:9464"
BLOCK = re.compile(r"^```console\n\$ (?P<command>curl .*\n(?: {4}.*\n)*)(?P<output>(?:.*\n)*?)```$", re.MULTILINE)
CALLS = [
    pytest.param(
        block["command"], block["output"], id=f"{page.name}:{page.read_text().count(chr(10), 0, block.start())}"
    )
    for page in sorted((ROOT / "docs").rglob("*.md"))
    for block in BLOCK.finditer(page.read_text(encoding="utf-8"))
]


@pytest.fixture(scope="module")
def url(numba: Backend) -> Iterator[str]:
    if shutil.which("curl") is None:
        if os.environ.get("CI"):
            pytest.fail("curl is missing")
        pytest.skip("curl is not installed")
    with http_server(numba) as server:
        yield server.url


def test_there_are_some() -> None:
    """The pattern finds them."""
    assert len(CALLS) >= 4


@pytest.mark.parametrize("command, output", CALLS)
def test_a_call_prints_what_the_page_says(command: str, output: str, url: str) -> None:
    """`...` stands for what differs between calls; the request ids that are made do."""
    assert ADDRESS in command
    shown = subprocess.run(
        ["bash", "-c", command.replace(ADDRESS, url)], capture_output=True, text=True, timeout=60, check=True
    ).stdout

    assert OutputChecker().check_output(output, shown if shown.endswith("\n") else f"{shown}\n", ELLIPSIS), shown
