"""Runs notebooks as plain Python and writes into them what their cells print and draw.

PYTHONPATH=client:server:tools python -m manual.run_notebook docs/first-look.ipynb
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt

Output = dict[str, Any]


def run(cells: list[dict[str, Any]]) -> list[list[Output]]:
    """The outputs of each code cell, in nbformat 4. Cells share their names; an exception of one passes through."""
    names: dict[str, Any] = {"__name__": "__main__"}
    return [_run("".join(cell["source"]), names) for cell in cells if cell["cell_type"] == "code"]


def _run(code: str, names: dict[str, Any]) -> list[Output]:
    printed, drawn = io.StringIO(), list[Output]()

    def show() -> None:
        drawing = io.StringIO()
        plt.savefig(drawing, format="svg", metadata={"Date": None})
        label = plt.gca().get_ylabel()
        plt.close()
        data = {"image/svg+xml": _lines(drawing.getvalue()), "text/plain": [label]}
        drawn.append({"data": data, "metadata": {}, "output_type": "display_data"})

    # A drawing has the same bytes each time: no date, and names that are not random.
    with (
        contextlib.redirect_stdout(printed),
        patch.object(plt, "show", show),
        mpl.rc_context({"svg.hashsalt": "lossd"}),
    ):
        exec(code, names)
    text = printed.getvalue()
    stream = [{"name": "stdout", "output_type": "stream", "text": _lines(text)}] if text else []
    return drawn + stream


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def main(paths: list[str]) -> None:
    for path in map(Path, paths):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        outputs = iter(run(notebook["cells"]))
        for number, cell in enumerate((one for one in notebook["cells"] if one["cell_type"] == "code"), start=1):
            cell |= {"outputs": next(outputs), "execution_count": number}
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
