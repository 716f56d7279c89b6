"""The pages are complete, and what they link to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lossd.request.build import METHODS

ROOT = Path(__file__).resolve().parent.parent.parent
LOSSES = ROOT / "docs/losses"
TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES = (*TOP, *sorted((ROOT / "docs").rglob("*.md")))
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")


def page(method: str) -> str:
    """The activations share one."""
    return "activations" if METHODS[method].rpc == "Activation" else method


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_page_with_a_picture(method: str) -> None:
    """Each method of the client is explained in docs/losses, beside a picture of its curve."""
    text = (LOSSES / f"{page(method)}.md").read_text(encoding="utf-8")

    assert f"`{method}(" in text
    assert f"../pictures/{page(method)}.svg" in text
    assert f"({page(method)}.md)" in (LOSSES / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    """A page's link to a file of the project finds it, and a heading where it names one."""
    broken = []
    for name, heading in LINK.findall(path.read_text(encoding="utf-8")):
        target = path.parent / name if name else path
        if not target.exists() or (heading and heading not in anchors(target)):
            broken.append(f"{name}#{heading}" if heading else name)

    assert broken == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_tables_are_whole(path: Path) -> None:
    """Every row has as many cells as its head: a bar inside a cell, even inside code, would begin another one."""
    # Code between fences is no table.
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    tables = re.findall(r"^\|.*\n\|[-: |]+\|\n(?:\|.*\n?)*", text, re.MULTILINE)
    uneven = [rows[0] for rows in map(str.splitlines, tables) if len(set(map(cells, rows))) > 1]

    assert uneven == []


def cells(row: str) -> int:
    """Bars that are not escaped: GitHub ends a cell at each."""
    return len(re.findall(r"(?<!\\)\|", row))


def test_the_glossary_is_short() -> None:
    """At most 25 words: who has to learn more of them does not."""
    glossary = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").partition("## Glossary")[2]
    words = re.findall(r"^\| ([^|]+) \|", glossary, re.MULTILINE)[1:]

    assert 0 < len([word for word in words if not word.startswith("-")]) <= 25


def anchors(path: Path) -> set[str]:
    """Headings as links name them: in small letters, with hyphens for spaces, without other signs."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
