"""Address registry: who counts, and for how long."""

from __future__ import annotations

from lossd_server.ray_app.address_registry import AGAIN_S, REPEAT_S, TIME_TO_LIVE_S, AddressRegistry


def test_an_address_counts_for_its_time() -> None:
    """Who says so again counts on; who does not is out, and may come back."""
    now_s = 0.0
    registry = AddressRegistry(lambda: now_s)
    registry.keep("b:1")
    registry.keep("a:1")
    assert registry.addresses() == ["a:1", "b:1"]
    now_s = TIME_TO_LIVE_S - 0.1
    registry.keep("a:1")
    now_s = TIME_TO_LIVE_S

    assert registry.addresses() == ["a:1"]
    registry.keep("b:1")
    assert registry.addresses() == ["a:1", "b:1"]


def test_who_leaves_is_out_at_once() -> None:
    """A second time, too."""
    registry = AddressRegistry(lambda: 0.0)
    registry.keep("a:1")
    registry.leave("a:1")
    registry.leave("a:1")

    assert registry.addresses() == []


def test_two_words_may_be_lost() -> None:
    """Before an address that is there counts no more."""
    assert 2 * REPEAT_S < TIME_TO_LIVE_S
    assert AGAIN_S <= REPEAT_S
