"""Pages for a first visit say what other pages, which are run or generated, say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lossd.reasons.table import known_reasons

DOCS = Path(__file__).resolve().parents[2] / "docs"
LINES = re.findall(
    r"^\| \[[^]]+\]\((languages/\w+\.md)\) \| `([^`]+)` \|$", (DOCS / "quick-start.md").read_text(), re.M
)


@pytest.mark.parametrize("page, line", LINES, ids=[page for page, _ in LINES])
def test_a_line_of_the_quick_start_is_one_of_its_language(page: str, line: str) -> None:
    """tests/languages runs the pages of languages; what the quick start shows is taken from them."""
    assert line in " ".join((DOCS / page).read_text(encoding="utf-8").split())


def test_every_language_has_a_line() -> None:
    """Each page of a language that is run."""
    pages = {f"languages/{path.name}" for path in (DOCS / "languages").glob("*.md")}

    assert {page for page, _ in LINES} == pages - {"languages/README.md", "languages/your-own.md"}


def test_reasons_of_troubleshooting_are_known() -> None:
    """A reason that is named there has an entry in docs/errors.md."""
    named = re.findall(r"`([A-Z]+_[A-Z_]+)`", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"))

    assert len(named) > 10
    assert {name for name in named if not name.startswith("LOSSD_")} <= set(known_reasons())
