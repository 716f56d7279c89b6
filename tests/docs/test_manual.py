"""The manual's build: where links out of docs/ lead, and how docstrings become lists."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


@pytest.fixture
def leaving(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    from manual import leaving

    return leaving


@pytest.fixture
def docstring_text(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    from manual import docstring_text

    return docstring_text


def test_a_link_to_a_source_leads_to_the_repository(leaving: ModuleType) -> None:
    """Below the address that was given, with its heading; the path is taken from the page's own folder."""
    shown = leaving.rewritten("[all](../../SECURITY.md#scope)", "losses/bce.md", DOCS, "https://host/lossd/blob/main")

    assert shown == "[all](https://host/lossd/blob/main/SECURITY.md#scope)"


@pytest.mark.parametrize(
    "link, shown",
    [
        ("[`engine`](../server/lossd_server/engine)", "`server/lossd_server/engine`"),
        ("[what is promised](../SECURITY.md)", "what is promised (`SECURITY.md`)"),
        ("[the figures](performance)", "the figures (`docs/performance`)"),
    ],
)
def test_without_a_repository_the_file_is_named(leaving: ModuleType, link: str, shown: str) -> None:
    """A link to a source, or to a folder, is plain text then."""
    assert leaving.rewritten(link, "README.md", DOCS, "") == shown


@pytest.mark.parametrize(
    "text",
    [
        "[a page](errors.md#overloaded)",
        "[elsewhere](https://example.org/a)",
        "![a picture](pictures/bce.svg)",
        "[nowhere](../nothing.md)",
        "```python\nx = [`a`](../SECURITY.md)\n```",
    ],
)
def test_other_links_stay(leaving: ModuleType, text: str) -> None:
    """Those of the manual, of other hosts and in code; and broken ones, which the build then complains of."""
    assert leaving.rewritten(text, "README.md", DOCS, "") == text


def test_names_of_a_docstring_become_a_list(docstring_text: ModuleType) -> None:
    """A name where a sentence would begin is an item, until a line begins a sentence."""
    text = "Sums: all of\nthem: now.\n\nca: a file of\nauthorities. cert, key: two.\nThread-safe."

    assert docstring_text.markdown(text) == (
        "Sums: all of\nthem: now.\n\n- `ca`: a file of\n  authorities.\n\n- `cert, key`: two.\n\nThread-safe."
    )


def test_prompts_become_code(docstring_text: ModuleType) -> None:
    """Without the prompts, so that it can be copied."""
    assert docstring_text.markdown("Adds.\n\n>>> for x in y:\n...     f(x)\n\nMore.") == (
        "Adds.\n\n```python\nfor x in y:\n    f(x)\n```\n\nMore."
    )


def test_every_diagram_has_its_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make diagrams` has drawn each as it is now, and no picture is of an older one."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    from manual import diagrams

    drawn = {f"pictures/{path.name}" for path in (DOCS / "pictures").glob("diagram-*.svg")}

    assert drawn == {diagrams.picture(text) for text in diagrams.of_pages(DOCS)}
