"""The Python in README.md and docs/ is run as a reader would run it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from doctest import ELLIPSIS, OutputChecker
from pathlib import Path

import pytest

from lossd_server.embedded import EmbeddedServer

ROOT = Path(__file__).resolve().parent.parent.parent
# The address that documents name: the reader has a server there. Here it becomes the test's own server's.
ADDRESS = "127.0.0.1:50051"
BLOCK = re.compile(
    r"(?P<unrun><!-- not run: [^\n]+-->\n)?^```python\n(?P<code>.*?)^```\n(\n?^```text\n(?P<output>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Example:
    """One ```python block, and the ```text block right below it: what it prints (`...` stands for anything)."""

    place: str
    code: str
    output: str | None


def examples() -> Iterator[Example]:
    """Every block, but those below a comment `<!-- not run: reason -->`."""
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        text = path.read_text(encoding="utf-8")
        for block in BLOCK.finditer(text):
            if block["unrun"] is None:
                line = text.count("\n", 0, block.start("code")) + 1
                yield Example(f"{path.relative_to(ROOT)}:{line}", block["code"], block["output"])


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with EmbeddedServer() as server:
        yield server.address


@pytest.mark.parametrize("example", tuple(examples()), ids=lambda example: example.place)
def test_an_example_runs_and_prints_what_the_page_says(example: Example, address: str, tmp_path: Path) -> None:
    """A documented example runs in a process of its own, and prints what stands below it."""
    code = example.code.replace(ADDRESS, address)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    if example.output is not None:
        assert OutputChecker().check_output(example.output, done.stdout, ELLIPSIS), done.stdout
