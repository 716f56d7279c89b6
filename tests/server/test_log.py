"""What is logged, and what is not."""

from __future__ import annotations

import logging

import pytest

from lossd_server.config import logs


class ExecuteBatchError(Exception):
    """As grpc.aio's, which nobody outside it can import."""


def test_a_client_that_went_away_is_no_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What grpc.aio logs of an answer that nobody takes any more is left out; everything else of it is there."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging.getLogger(), "level", logging.INFO)
    logs.configure("info", "text")
    core = logging.getLogger("grpc._cython.cygrpc")
    core.error("gone", exc_info=ExecuteBatchError())
    core.error("broken", exc_info=ValueError())
    core.error("plain")

    said = capsys.readouterr().err
    assert "gone" not in said
    assert "broken" in said
    assert "plain" in said
