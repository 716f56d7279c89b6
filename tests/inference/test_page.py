"""docs/open-inference.md: its examples are run by Triton's client, and its table is what the server has."""

from __future__ import annotations

import os
import re
import subprocess
from doctest import ELLIPSIS, OutputChecker
from pathlib import Path

import pytest

from lossd_server.inference.models import MODELS
from tests.docs.test_examples import ADDRESS, BLOCK
from tests.waiting import WAIT_S

PAGE = (Path(__file__).parents[2] / "docs/open-inference.md").read_text(encoding="utf-8")
EXAMPLES = [(block["code"], block["output"]) for block in BLOCK.finditer(PAGE) if block["output"]]


@pytest.mark.parametrize("code, output", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_prints_what_stands_below_it(code: str, output: str, address: str, triton_python: Path) -> None:
    """On a server of each front, as a reader would run it."""
    done = subprocess.run(
        [triton_python, "-c", code.replace(ADDRESS, address)],
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert OutputChecker().check_output(output, done.stdout, ELLIPSIS), done.stdout


def test_the_table_of_models() -> None:
    """Inputs, parameters and outputs of every model stand there as the server knows them."""
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, re.MULTILINE))
    known = {
        name: " | ".join(
            ", ".join(f"`{one}`" for one in column) or "–" for column in (model.inputs, model.options, model.outputs)
        )
        for name, model in MODELS.items()
    }

    assert rows == known
