"""What streams may hold: pure."""

from __future__ import annotations

import pytest

from lossd_server.admission import Admission
from lossd_server.errors import Overloaded
from lossd_server.room import Account, Charge, Room

MIB = 1 << 20


def rooms(max_bytes: int = 16 * MIB, max_message_bytes: int = 4 * MIB) -> tuple[Admission, Room]:
    admission = Admission(max_bytes, 100, max_message_bytes)
    return admission, Room(admission)


def taken(account: Account, size: int) -> Charge:
    charge = account.take(size)
    assert charge is not None
    return charge


def test_a_charge_ends_with_its_last_holder() -> None:
    """A message is charged until everyone who holds it has dropped it, and its stream counts as a request so long."""
    admission, room = rooms()
    account = Account(room, lambda: None)
    charge = taken(account, 100)
    charge.hold()
    charge.drop()
    assert (admission.bytes, admission.requests) == (100, 1)

    charge.drop()
    assert (admission.bytes, admission.requests) == (0, 0)


def test_a_quarter_is_left_to_unary_calls() -> None:
    """Streams together take three quarters of the budget, then wait."""
    admission, room = rooms()
    first, second = Account(room, lambda: None), Account(room, lambda: None)
    held = [taken(first, 4 * MIB), taken(second, 4 * MIB), taken(first, 4 * MIB)]

    assert second.take(1) is None
    held[0].drop()
    assert second.take(4 * MIB) is not None
    assert admission.bytes == 12 * MIB


def test_one_message_is_always_taken() -> None:
    """However much unary calls hold, one message of streams goes on: nobody waits in a circle."""
    admission, room = rooms()
    admission.admit(4 * MIB)
    admission.bytes = 16 * MIB
    account = Account(room, lambda: None)

    assert account.take(4 * MIB) is not None
    assert account.take(1) is None


def test_what_opens_leave_is_bounded() -> None:
    """Open evaluations hold half of the streams' share at most; more is refused with RetryInfo, and charges nothing."""
    admission, room = rooms()
    account = Account(room, lambda: None)
    taken(account, 4 * MIB).leave()
    more = taken(account, 4 * MIB)
    with pytest.raises(Overloaded) as caught:
        more.leave()
    more.drop()

    assert caught.value.retry_after_s is not None
    assert admission.bytes == 4 * MIB
    assert (account.messages, account.bytes) == (0, 0)


def test_closing_gives_everything_back_once() -> None:
    """A stream that is over holds nothing, whatever is dropped later."""
    admission, room = rooms()
    given: list[None] = []
    account = Account(room, lambda: given.append(None))
    left, in_work = taken(account, 1000), taken(account, 10)
    left.leave()
    account.close()
    account.close()
    left.drop()
    in_work.drop()

    assert (admission.bytes, admission.requests) == (0, 0)
    assert given
    assert room.take(12 * MIB)
