"""docs/http2.md."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[4]
PAGE = (ROOT / "docs/http2.md").read_text(encoding="utf-8")
CODE, TESTS = ROOT / "server/lossd_server/front/http2", ROOT / "tests/server/front/http2"
PARTS = {"events"}  # says what others' events are called


def names(column: int) -> set[str]:
    """What a column of the table names, between backticks."""
    rows = [line.split("|") for line in PAGE.splitlines() if line.startswith(("| RFC", "| gRPC"))]
    return {name for row in rows for name in re.findall(r"`([a-z0-9_/]+)`", row[column])}


def modules(folder: Path) -> set[str]:
    """The modules of a folder and of those in it, as the table names them."""
    paths = (path.relative_to(folder).with_suffix("") for path in folder.rglob("*.py"))
    return {path.as_posix() for path in paths if path.name != "__init__"}


def test_table() -> None:
    """Every file of the front answers for a rule, and every test that is named is there."""
    assert names(2) - {"hpack"} == modules(CODE) - PARTS
    assert names(3) <= modules(TESTS)
