"""The notebooks in docs/ are run as plain Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "docs").rglob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_prints_what_it_says(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells run, one after the other; what they print is what stands in the file, and they draw as often."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    from manual import run_notebook

    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]

    found = run_notebook.run(cells)

    said = [cell["outputs"] for cell in cells if cell["cell_type"] == "code"]
    assert [list(map(printed, outputs)) for outputs in found] == [list(map(printed, outputs)) for outputs in said]


def printed(output: dict[str, object]) -> object:
    """A text; of a picture that there is one, whose bytes are those of a version of matplotlib."""
    return output["text"] if output["output_type"] == "stream" else "a picture"


def test_there_is_one() -> None:
    """The manual has a first look."""
    assert [path.name for path in NOTEBOOKS] == ["first-look.ipynb"]
