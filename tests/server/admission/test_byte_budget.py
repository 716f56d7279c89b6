"""Admission: pure policy."""

from __future__ import annotations

import pytest

from lossd_server.admission.byte_budget import Admission
from lossd_server.errors import Overloaded


def test_bytes() -> None:
    """A request that does not fit the byte budget has no room, is told to come back, and fits after a release."""
    admission = Admission(max_bytes=100, max_requests=10, max_message_bytes=100)
    admission.charge(60)
    refused = admission.overloaded(41)

    assert not admission.has_room(41)
    assert admission.has_room(40)
    assert refused.retry_after_s is not None
    assert refused.metadata["inflight_bytes"] == "60"
    admission.release(60)
    assert admission.has_room(41)
    assert (admission.bytes, admission.requests) == (0, 0)


def test_requests() -> None:
    """The number of requests is bounded whatever their size."""
    admission = Admission(max_bytes=100, max_requests=2, max_message_bytes=100)
    admission.charge(0)
    assert admission.has_room(0)
    admission.charge(0)

    assert not admission.has_room(0)


def test_too_large() -> None:
    """A message over the limit is refused without a word about coming back."""
    assert Admission(max_bytes=100, max_requests=2, max_message_bytes=50).too_large(51).retry_after_s is None


def test_unknown_size() -> None:
    """A call of unknown size is charged with the largest message, and with its own size once that is known."""
    admission = Admission(max_bytes=100, max_requests=10, max_message_bytes=50)

    assert admission.reserve()
    assert admission.bytes == 50
    admission.settle(3)
    assert admission.bytes == 3
    admission.release(3)
    assert (admission.bytes, admission.requests) == (0, 0)


def test_unknown_sizes_wait_for_each_other() -> None:
    """Calls of unknown size beyond the budget wait while others are read, and are not refused."""
    admission = Admission(max_bytes=110, max_requests=10, max_message_bytes=50)

    assert admission.reserve()
    assert admission.reserve()
    assert not admission.reserve()
    admission.settle(1)
    assert admission.reserve()


def test_unknown_size_refused() -> None:
    """A call of unknown size is refused where held bytes, not other readers, leave it no room."""
    admission = Admission(max_bytes=100, max_requests=10, max_message_bytes=50)
    admission.charge(50)
    admission.charge(1)

    with pytest.raises(Overloaded):
        admission.reserve()
