"""What streams may hold is shared between callers, and between the connections of each: pure."""

from __future__ import annotations

import pytest

from lossd_server.admission.byte_budget import Admission
from lossd_server.admission.caller_holdings import CallerHoldings
from lossd_server.admission.stream_budget import StreamBudget
from lossd_server.admission.stream_shares import LITTLE_BYTES, StreamsBudget
from lossd_server.call.identity import Identity, Sharer
from lossd_server.errors import Overloaded
from tests.server.admission.test_stream_budget import MIB, account_of, rooms, taken


def test_callers_share_whatever_their_connections() -> None:
    """Open evaluations of all connections of a caller leave a quarter of what others do not have."""
    _, room = rooms(16 * MIB, 1 * MIB)
    for connection in range(8):
        taken(account_of(room, connection, "a"), MIB // 2).leave()
    more = taken(account_of(room, 8, "a"), MIB // 2)
    with pytest.raises(Overloaded, match="of this caller"):
        more.leave()
    taken(account_of(room, 0, "b"), MIB // 2).leave()


def test_what_is_kept_for_little_is_shared_by_callers() -> None:
    """A caller with any number of connections leaves some of it."""
    _, room = rooms(16 * MIB)
    connections = 0
    while account_of(room, connections, "a").take_little(LITTLE_BYTES // 2):
        connections += 1

    assert connections == 24
    assert account_of(room, 0, "b").take_little(LITTLE_BYTES // 2)


def test_a_caller_at_its_limit_is_held_back() -> None:
    """While something of it is in work: what is open, and waits for its next block, holds nobody back."""
    callers = CallerHoldings(Identity("", max_inflight_bytes=1 * MIB))
    room = StreamsBudget(Admission(16 * MIB, 100, 4 * MIB, callers))
    share = room.begin(Sharer("a", 0), callers.of(Identity("a")))
    account = StreamBudget(room, share, lambda: None)
    opened = taken(account, MIB // 4)
    opened.leave()
    assert not account.is_held_back(MIB)
    block = taken(account, MIB)
    assert account.is_held_back(1)
    with pytest.raises(Overloaded, match="max_inflight_bytes"):
        block.leave()
    block.drop()
    assert not account.is_held_back(1)
    account.close()

    assert not len(callers)
