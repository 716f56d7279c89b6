"""The commands in docs/ are run as a reader would run them."""

from __future__ import annotations

import re
import shlex
from doctest import ELLIPSIS, OutputChecker
from pathlib import Path

import numpy as np
import pytest

from lossd import cli

ROOT = Path(__file__).resolve().parent.parent.parent
BLOCK = re.compile(r"^```console\n(?P<text>\$ lossd .*\n(?:.*\n)*?)```$", re.MULTILINE)
COMMAND = re.compile(r"^\$ lossd (?P<command>.*)\n(?P<output>(?:(?!\$ ).*\n)*)", re.MULTILINE)
BLOCKS = [
    pytest.param(block["text"], id=f"{page.name}:{page.read_text(encoding='utf-8').count(chr(10), 0, block.start())}")
    for page in sorted((ROOT / "docs").rglob("*.md"))
    for block in BLOCK.finditer(page.read_text(encoding="utf-8"))
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The project's examples, and the digits in the other files that the pages name."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    with np.load(ROOT / "examples/digits.npz", allow_pickle=False) as digits:
        logits, labels = digits["logits"], digits["labels"]
    np.save(tmp_path / "calibrated.npy", logits * 1.6)
    for i in range(3):
        rows = np.arange(600 * i, min(600 * (i + 1), len(labels)))
        lines = [";".join(f"c{j}" for j in range(10)) + ";label"]
        lines += [";".join([*map(str, logits[row]), str(labels[row])]) for row in rows]
        (tmp_path / f"part-{i}.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.mark.parametrize("text", BLOCKS)
def test_a_command_prints_what_the_page_says(
    text: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other; `...` stands for what differs between machines, or is left out."""
    monkeypatch.chdir(folder)

    for one in COMMAND.finditer(text):
        assert cli.main(shlex.split(one["command"])) == 0
        shown = capsys.readouterr().out
        assert OutputChecker().check_output(one["output"], shown, ELLIPSIS), shown
