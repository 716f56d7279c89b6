"""The commands in docs/ are run as a reader would run them."""

from __future__ import annotations

import re
import shlex
from doctest import ELLIPSIS, OutputChecker
from pathlib import Path

import pytest

from lossd import cli

ROOT = Path(__file__).resolve().parent.parent.parent
BLOCK = re.compile(r"^```console\n\$ lossd (?P<command>.*)\n(?P<output>(?:.*\n)*?)```$", re.MULTILINE)
COMMANDS = [
    pytest.param(
        block["command"], block["output"], id=f"{page.name}:{page.read_text().count(chr(10), 0, block.start())}"
    )
    for page in sorted((ROOT / "docs").rglob("*.md"))
    for block in BLOCK.finditer(page.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("command, output", COMMANDS)
def test_a_command_prints_what_the_page_says(
    command: str, output: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the project's folder; `...` stands for what differs between machines."""
    monkeypatch.chdir(ROOT)

    assert cli.main(shlex.split(command)) == 0
    shown = capsys.readouterr().out
    assert OutputChecker().check_output(output, shown, ELLIPSIS), shown
