"""Admission: pure policy."""

from __future__ import annotations

import pytest

from lossd_server.admission.byte_budget import Admission
from lossd_server.admission.caller_holdings import CallerHoldings
from lossd_server.call.identity import Identity
from lossd_server.errors import Overloaded


def test_bytes() -> None:
    """A request that does not fit the byte budget has no room, is told to come back, and fits after a release."""
    admission = Admission(max_bytes=100, max_requests=10, max_message_bytes=100)
    caller = admission.callers.of(Identity("a"))
    admission.charge(60, caller)
    refused = admission.overloaded(41)

    assert not admission.has_room(41)
    assert admission.has_room(40)
    assert refused.retry_after_s is not None
    assert refused.metadata["inflight_bytes"] == "60"
    admission.release(60, caller)
    assert admission.has_room(41)
    assert (admission.bytes, admission.requests) == (0, 0)


def test_requests() -> None:
    """The number of requests is bounded whatever their size."""
    admission = Admission(max_bytes=100, max_requests=2, max_message_bytes=100)
    caller = admission.callers.of(Identity("a"))
    admission.charge(0, caller)
    assert admission.has_room(0)
    admission.charge(0, caller)

    assert not admission.has_room(0)


def test_too_large() -> None:
    """A message over the limit is refused without a word about coming back."""
    assert Admission(max_bytes=100, max_requests=2, max_message_bytes=50).too_large(51).retry_after_s is None


def test_unknown_size() -> None:
    """A call of unknown size is charged with the largest message, and with its own size once that is known."""
    admission = Admission(max_bytes=100, max_requests=10, max_message_bytes=50)
    caller = admission.callers.of(Identity("a"))

    assert admission.reserve(caller)
    assert admission.bytes == 50
    admission.settle(3, caller)
    assert admission.bytes == 3
    admission.release(3, caller)
    assert (admission.bytes, admission.requests) == (0, 0)


def test_unknown_sizes_wait_for_each_other() -> None:
    """Calls of unknown size beyond the budget wait while others are read, and are not refused."""
    admission = Admission(max_bytes=110, max_requests=10, max_message_bytes=50)
    caller = admission.callers.of(Identity("a"))

    assert admission.reserve(caller)
    assert admission.reserve(caller)
    assert not admission.reserve(caller)
    admission.settle(1, caller)
    assert admission.reserve(caller)


def test_unknown_size_refused() -> None:
    """A call of unknown size is refused where held bytes, not other readers, leave it no room."""
    admission = Admission(max_bytes=100, max_requests=10, max_message_bytes=50)
    caller = admission.callers.of(Identity("a"))
    admission.charge(50, caller)
    admission.charge(1, caller)

    with pytest.raises(Overloaded):
        admission.reserve(caller)


def test_bytes_of_a_caller() -> None:
    """What a caller is charged with counts for it alone, and nothing of one that has nothing is kept."""
    callers = CallerHoldings(Identity("", max_inflight_bytes=50))
    admission = Admission(100, 10, 100, callers)
    one, other = callers.of(Identity("one")), callers.of(Identity("other", max_inflight_bytes=70))
    admission.charge(40, one)
    one.require(10)
    with pytest.raises(Overloaded, match=r"one holds 40 bytes.*max_inflight_bytes is 50") as caught:
        one.require(11)
    assert caught.value.reason == "CALLER_LIMIT"
    assert caught.value.retry_after_s
    admission.charge(60, other)
    with pytest.raises(Overloaded):
        admission.reserve(other)
    other.require(10)
    admission.release(40, one)
    admission.release(60, other)

    assert not len(callers)


def test_one_request_of_a_caller_is_always_taken() -> None:
    """However little its limit is, and what its answer adds."""
    callers = CallerHoldings(Identity("", max_inflight_bytes=50))
    admission = Admission(1000, 10, 100, callers)
    one = callers.of(Identity("one"))
    one.require(80)
    admission.charge(80, one)
    admission.grow(100, 80, one)
    assert one.bytes == 180

    admission.charge(10, callers.of(Identity("one")))
    with pytest.raises(Overloaded):
        admission.grow(1, 180, one)


def test_limits_are_shared_by_workers() -> None:
    """Rounded up, so that each has one; a limit of its own comes before that of everybody."""
    callers = CallerHoldings(Identity("", max_inflight_requests=2, max_streams=9), workers=4)
    limits = callers.of(Identity("one", max_streams=6)).limits

    assert (limits.max_inflight_requests, limits.max_streams, limits.max_inflight_bytes) == (1, 2, 0)
    assert callers.limits_of(Identity("one", max_streams=6)).max_streams == 6
