"""Every language replays the vectors against a server, and passes its own tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.languages.languages import LANGUAGES, VECTORS, Language, Replayed, replay

CASES = [case for path in VECTORS.glob("*.json") for case in json.loads(path.read_text("utf-8"))["cases"]]


@pytest.mark.timeout(2000)
@pytest.mark.parametrize("language", LANGUAGES, ids=lambda one: one.folder)
def test_language(language: Language, every: bool, proto: Path, address: str, replayed: list[Replayed]) -> None:
    """`make test` of a language passes, and counts every vector at least once."""
    language.require(every)
    result, printed = replay(language, proto, address)
    replayed.append(result)

    assert not result.failed, printed
    assert result.passed >= len(CASES), printed
