"""The decisions' part of the navigation: a new one is in it without an edit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SECTION = "Decisions"


def listed(nav: list[dict[str, Any]], docs: Path) -> None:
    """Appends every page of docs/decisions to the section of that name, wherever in `nav` it is."""
    section = _section(nav)
    pages = sorted((docs / "decisions").glob("[0-9]*.md"))
    section += [{_heading(page): f"decisions/{page.name}"} for page in pages]


def _section(nav: list[Any]) -> list[Any]:
    for item in nav:
        for name, value in item.items() if isinstance(item, dict) else ():
            if name == SECTION:
                found: list[Any] = value
                return found
            if isinstance(value, list):
                try:
                    return _section(value)
                except LookupError:
                    continue
    raise LookupError(f"mkdocs.yml has no section {SECTION}")


def _heading(page: Path) -> str:
    return page.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ").replace("`", "")
