"""Tests that a text names as path::test: whether they are there."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def missing_tests(names: Iterable[str]) -> list[str]:
    """Those that are in no file of that path."""
    return [name for name in names if name.partition("::")[2] not in tests_of(name.partition("::")[0])]


@cache
def tests_of(path: str) -> frozenset[str]:
    """The names of the tests in a file; none where there is no such file."""
    file = ROOT / path
    if not file.is_file():
        return frozenset()
    return frozenset(
        node.name
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    )
