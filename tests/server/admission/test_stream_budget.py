"""What streams may hold: pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossd_server.admission.byte_budget import Admission
from lossd_server.admission.caller_holdings import CallerHoldings
from lossd_server.admission.stream_budget import Reservation, StreamBudget
from lossd_server.admission.stream_shares import EVALUATION_BYTES, ConnectionShare, StreamsBudget
from lossd_server.call.identity import Identity, Sharer
from lossd_server.errors import Overloaded

MIB = 1 << 20


def rooms(max_bytes: int = 16 * MIB, max_message_bytes: int = 4 * MIB) -> tuple[Admission, StreamsBudget]:
    admission = Admission(max_bytes, 100, max_message_bytes)
    return admission, StreamsBudget(admission)


CALLERS = CallerHoldings()


def share_of(room: StreamsBudget, connection: int = 0, caller: str = "") -> ConnectionShare:
    """Of a caller of its own, where none is named."""
    sharer = Sharer(caller or connection, connection)
    return room.begin(sharer, CALLERS.of(Identity(f"{sharer.caller}")))


def account_of(room: StreamsBudget, connection: int = 0, caller: str = "") -> StreamBudget:
    return StreamBudget(room, share_of(room, connection, caller), lambda: None)


def taken(account: StreamBudget, size: int) -> Reservation:
    charge = account.take(size)
    assert charge is not None
    return charge


def leave_all(account: StreamBudget) -> None:
    while True:
        taken(account, 1000).leave()


def test_a_charge_ends_with_its_last_holder() -> None:
    """A message is charged until everyone who holds it has dropped it, and its stream counts as a request so long."""
    admission, room = rooms()
    account = account_of(room)
    charge = taken(account, 100)
    charge.hold()
    charge.drop()
    assert (admission.bytes, admission.requests) == (100, 1)

    charge.drop()
    assert (admission.bytes, admission.requests) == (0, 0)


def test_a_quarter_is_left_to_unary_calls() -> None:
    """Streams together take three quarters of the budget, then wait."""
    admission, room = rooms()
    first, second = account_of(room), account_of(room)
    held = [taken(first, 4 * MIB), taken(second, 4 * MIB), taken(first, 4 * MIB)]

    assert second.take(1) is None
    held[0].drop()
    assert second.take(4 * MIB) is not None
    assert admission.bytes == 12 * MIB


def test_one_message_is_always_taken() -> None:
    """However much unary calls hold, one message of streams goes on: nobody waits in a circle."""
    admission, room = rooms()
    admission.charge(4 * MIB, CALLERS.of(Identity("unary")))
    admission.bytes = 16 * MIB
    account = account_of(room)

    assert account.take(4 * MIB) is not None
    assert account.take(1) is None


def test_what_opens_leave_is_bounded() -> None:
    """Open evaluations hold half of the streams' share at most; more is refused with RetryInfo, and charges nothing."""
    admission, room = rooms()
    account = account_of(room)
    taken(account, 4 * MIB).leave()
    more = taken(account, 4 * MIB)
    with pytest.raises(Overloaded) as caught:
        more.leave()
    more.drop()

    assert caught.value.retry_after_s is not None
    assert admission.bytes == 4 * MIB + EVALUATION_BYTES
    assert (account.messages, account.bytes) == (0, 0)


def test_closing_gives_everything_back_once() -> None:
    """A stream that is over holds nothing, whatever is dropped later."""
    admission, room = rooms()
    given: list[None] = []
    account = StreamBudget(room, share_of(room), lambda: given.append(None))
    left, in_work = taken(account, 1000), taken(account, 10)
    left.leave()
    account.close()
    account.close()
    left.drop()
    in_work.drop()

    assert (admission.bytes, admission.requests) == (0, 0)
    assert given
    assert account_of(room).take(12 * MIB)


def test_evaluations_that_hold_no_bytes_are_bounded() -> None:
    """An open evaluation is charged for itself: as many as there is memory for, however small their Opens are."""
    _, room = rooms(1 * MIB, 1 * MIB)
    account = account_of(room)
    for _ in range(MIB // 2 * 3 // 4 // (EVALUATION_BYTES + 10)):
        taken(account, 10).leave()

    with pytest.raises(Overloaded):
        taken(account, 10).leave()


def test_who_holds_little_is_let_in_whatever_others_hold() -> None:
    """Each connection has a few KiB of its own: for messages, and for evaluations that stay open."""
    admission, room = rooms(16 * MIB)
    hog = account_of(room)
    taken(hog, 4 * MIB).leave()
    while hog.take(MIB):
        pass
    many = [account_of(room, connection) for connection in range(1, 11)]
    for account in many:
        charge = account.take_little(20_000)
        assert charge is not None
        charge.leave()

    assert hog.take_little(1 << 20) is None
    assert many[0].take_little(1 << 16) is None
    assert admission.bytes <= admission.max_bytes


def test_what_is_kept_for_little_is_bounded() -> None:
    """However many connections there are."""
    _, room = rooms(16 * MIB)
    many = [account_of(room, connection) for connection in range(100)]

    assert sum(account.take_little(1 << 16) is not None for account in many) == 16


@given(st.integers(1, 40))
def test_a_connection_leaves_room_for_another(connections: int) -> None:
    """However much those before it hold open: three quarters of what others leave, and a little in any case."""
    _, room = rooms(64 * MIB)
    for connection in range(connections):
        account = account_of(room, connection)
        with pytest.raises(Overloaded):
            leave_all(account)
    late = account_of(room, connections)
    charge = late.take_little(1000)
    assert charge is not None
    charge.leave()

    assert charge.left


def test_a_connection_alone_leaves_all_that_streams_may() -> None:
    """Where it is one Open; of several it leaves a quarter for others."""
    _, room = rooms(16 * MIB, 6 * MIB)
    taken(account_of(room), 6 * MIB - EVALUATION_BYTES).leave()

    with pytest.raises(Overloaded):
        taken(account_of(room), 1).leave()


def test_whose_share_is_exceeded() -> None:
    """A connection is above its share that holds more than it would if all connections held alike."""
    _, room = rooms(16 * MIB)
    shares = [share_of(room, connection) for connection in range(4)]
    StreamBudget(room, shares[0], lambda: None).take(4 * MIB)
    StreamBudget(room, shares[1], lambda: None).take(2 * MIB)

    assert [room.is_above(share) for share in shares] == [True, False, False, False]


def test_an_answer_is_charged_in_advance() -> None:
    """A charge is of what may be held until it is known what is: then what is too much is given back."""
    admission, room = rooms()
    changes: list[None] = []
    account = StreamBudget(room, share_of(room), lambda: changes.append(None))
    charge = account.take(200, 100)
    assert charge is not None
    charge.grow(60)
    assert (admission.bytes, changes) == (200, [])
    charge.settle()
    assert (admission.bytes, account.bytes, changes) == (160, 160, [None])
    charge.settle(1 << 40)  # a block in the middle of a stream cannot be refused
    assert admission.bytes == 1 << 40
    charge.settle(5)
    assert admission.bytes == 5
    charge.drop()

    assert (admission.bytes, account.bytes, admission.requests) == (0, 0, 0)


SIZES = st.integers(0, 6 * MIB)
KINDS = ["take", "little", "hold", "drop", "grow", "settle", "leave", "close"]
STEPS = st.tuples(st.sampled_from(KINDS), st.integers(0, 2), SIZES)


@given(st.lists(STEPS, max_size=80))
def test_everything_comes_back(steps: list[tuple[str, int, int]]) -> None:
    """In whatever order streams take, grow, leave, drop and end, nothing is counted below 0, and all of it is back."""
    admission, room = rooms()
    accounts = [account_of(room, connection) for connection in range(3)]
    held: list[list[tuple[Reservation, bool]]] = [[], [], []]  # a charge for each of its holders; whether it was left
    for step, place, size in steps:
        account, charges = accounts[place], held[place]
        if step == "take":
            charge = account.take(min(size, admission.max_message_bytes))
            if charge is not None:
                charges.append((charge, False))
        elif step == "little":
            charge = account.take_little(size % 9000)
            if charge is not None:
                charges.append((charge, False))
        elif step == "close":
            account.close()
            accounts[place] = account_of(room, place)
            for closed, _ in charges:
                closed.drop()  # whoever still holds one lets go later
            charges.clear()
        elif charges:
            charge, left = charges[size % len(charges)]
            if step == "hold":
                charges.append((charge.hold(), left))
            elif step == "drop":
                charges.remove((charge, left))
                charge.drop()
            elif not left:
                try:
                    if step == "grow":
                        charge.grow(size)
                    elif step == "settle":
                        charge.settle(min(size, charge.size))
                    else:
                        charge.leave()
                        held[place] = [(one, mark or one is charge) for one, mark in charges]
                except Overloaded:
                    pass
        assert admission.bytes >= 0
        assert admission.bytes <= 1.5 * admission.max_bytes
        assert admission.requests == sum(bool(one) for one in held)
    for account in accounts:
        account.close()

    assert (admission.bytes, admission.requests) == (0, 0)
    assert account_of(room).take(12 * MIB)


def test_a_stream_that_is_over_takes_nothing_more() -> None:
    """A message that is received while its stream ends leaves nothing behind."""
    admission, room = rooms()
    account = account_of(room)
    growing, leaving = taken(account, 10), taken(account, 10)
    account.close()
    growing.grow(100)
    leaving.leave()
    growing.drop()
    leaving.drop()

    assert (admission.bytes, admission.requests) == (0, 0)
    assert account_of(room).take(12 * MIB)
