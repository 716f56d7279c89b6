"""docs/threats.md: each row names tests that hold it, and each of them is there."""

from __future__ import annotations

import re

from tests.docs.named_tests import ROOT, missing_tests

PAGE = (ROOT / "docs/threats.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (?!attack or fault|---)(.+?) \| (.+?) \| (.+) \|$", re.MULTILINE)
NAME = re.compile(r"`(tests/[\w/]+\.py::\w+)`")


def test_every_row_names_tests_that_exist() -> None:
    """By path and name, at least one a row."""
    rows = ROW.findall(PAGE)

    assert len(rows) > 40
    assert [row[0] for row in rows if not NAME.findall(row[2])] == []
    assert missing_tests(name for row in rows for name in NAME.findall(row[2])) == []


def test_the_rows_are_tables() -> None:
    """What looks like a row is one: the pattern misses none."""
    lines = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| attack")]

    assert len(lines) == len(ROW.findall(PAGE))
