"""Dealing: calls on channels to servers of different names."""

from __future__ import annotations

import grpc

from lossd.connection.dealing import Dealer

READY, FAILED = grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE


def test_channels_have_turns_and_the_least_busy_is_first() -> None:
    """Those with as few calls in turn."""
    dealer = Dealer(3, lambda _: READY)

    assert [dealer.begin() for _ in range(4)] == [0, 1, 2, 0]
    dealer.end(2)
    assert dealer.begin() == 2


def test_who_does_not_connect_comes_last() -> None:
    """However few calls it has; where all have failed, they have turns again."""
    states = [READY, FAILED]
    dealer = Dealer(2, lambda one: states[one])

    assert [dealer.begin() for _ in range(4)] == [0] * 4
    assert dealer.state is READY
    states[0] = FAILED
    assert dealer.begin() == 1
    assert dealer.state is FAILED
