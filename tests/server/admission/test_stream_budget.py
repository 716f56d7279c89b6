"""What streams may hold: pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossd_server.admission.byte_budget import Admission
from lossd_server.admission.stream_budget import EVALUATION_BYTES, Reservation, StreamBudget, StreamsBudget
from lossd_server.errors import Overloaded

MIB = 1 << 20


def rooms(max_bytes: int = 16 * MIB, max_message_bytes: int = 4 * MIB) -> tuple[Admission, StreamsBudget]:
    admission = Admission(max_bytes, 100, max_message_bytes)
    return admission, StreamsBudget(admission)


def taken(account: StreamBudget, size: int) -> Reservation:
    charge = account.take(size)
    assert charge is not None
    return charge


def test_a_charge_ends_with_its_last_holder() -> None:
    """A message is charged until everyone who holds it has dropped it, and its stream counts as a request so long."""
    admission, room = rooms()
    account = StreamBudget(room, lambda: None)
    charge = taken(account, 100)
    charge.hold()
    charge.drop()
    assert (admission.bytes, admission.requests) == (100, 1)

    charge.drop()
    assert (admission.bytes, admission.requests) == (0, 0)


def test_a_quarter_is_left_to_unary_calls() -> None:
    """Streams together take three quarters of the budget, then wait."""
    admission, room = rooms()
    first, second = StreamBudget(room, lambda: None), StreamBudget(room, lambda: None)
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
    account = StreamBudget(room, lambda: None)

    assert account.take(4 * MIB) is not None
    assert account.take(1) is None


def test_what_opens_leave_is_bounded() -> None:
    """Open evaluations hold half of the streams' share at most; more is refused with RetryInfo, and charges nothing."""
    admission, room = rooms()
    account = StreamBudget(room, lambda: None)
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
    account = StreamBudget(room, lambda: given.append(None))
    left, in_work = taken(account, 1000), taken(account, 10)
    left.leave()
    account.close()
    account.close()
    left.drop()
    in_work.drop()

    assert (admission.bytes, admission.requests) == (0, 0)
    assert given
    assert room.take(12 * MIB)


def test_evaluations_that_hold_no_bytes_are_bounded() -> None:
    """An open evaluation is charged for itself: as many as there is memory for, however small their Opens are."""
    _, room = rooms(1 * MIB, 1 * MIB)
    account = StreamBudget(room, lambda: None)
    for _ in range(MIB // 2 // (EVALUATION_BYTES + 10)):
        taken(account, 10).leave()

    with pytest.raises(Overloaded):
        taken(account, 10).leave()


SIZES = st.integers(0, 6 * MIB)
STEPS = st.tuples(st.sampled_from(["take", "hold", "drop", "grow", "leave", "close"]), st.integers(0, 2), SIZES)


@given(st.lists(STEPS, max_size=80))
def test_everything_comes_back(steps: list[tuple[str, int, int]]) -> None:
    """In whatever order streams take, grow, leave, drop and end, nothing is counted below 0, and all of it is back."""
    admission, room = rooms()
    accounts = [StreamBudget(room, lambda: None) for _ in range(3)]
    held: list[list[tuple[Reservation, bool]]] = [[], [], []]  # a charge for each of its holders; whether it was left
    for step, place, size in steps:
        account, charges = accounts[place], held[place]
        if step == "take":
            charge = account.take(min(size, admission.max_message_bytes))
            if charge is not None:
                charges.append((charge, False))
        elif step == "close":
            account.close()
            accounts[place] = StreamBudget(room, lambda: None)
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
    assert room.take(12 * MIB)


def test_a_stream_that_is_over_takes_nothing_more() -> None:
    """A message that is received while its stream ends leaves nothing behind."""
    admission, room = rooms()
    account = StreamBudget(room, lambda: None)
    growing, leaving = taken(account, 10), taken(account, 10)
    account.close()
    growing.grow(100)
    leaving.leave()
    growing.drop()
    leaving.drop()

    assert (admission.bytes, admission.requests) == (0, 0)
    assert room.take(12 * MIB)
