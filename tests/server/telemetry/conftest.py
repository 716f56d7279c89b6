"""What the tests of telemetry share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.spans import Spans, process_provider


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    """Of a server with traces = "process"."""
    with process_provider(monkeypatch) as found:
        yield found
