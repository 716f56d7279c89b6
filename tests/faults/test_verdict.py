"""The chaos program's verdicts: an outcome is right, or a fault that was felt must allow it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from chaos.history import FELT_S, Fault, Record
from chaos.verdict import ALLOWED, judged

RECORD = Record("client-0", 3, "nll", "unary", "tcp", "plain", start=10.0, end=11.0, outcome="Unavailable")
KILLED = Fault("server killed", "plain", 10.5, 12.0)


def felt(record: Record, fault: Fault) -> str:
    return judged(record, [fault] if fault.touches(record) else [])


def test_an_error_that_a_fault_explains() -> None:
    """UNAVAILABLE is excused while its server is killed, and for as long afterwards as a client needs to find it."""
    later = replace(KILLED, start=1.0, end=RECORD.start - FELT_S + 0.1)

    assert felt(RECORD, KILLED) == "excused"
    assert felt(RECORD, later) == "excused"


@pytest.mark.parametrize(
    "fault",
    [
        replace(KILLED, target="tls"),
        replace(KILLED, target="proxy/plain"),
        replace(KILLED, target="client-1", kind="client stopped"),
        replace(KILLED, start=11.5),
        replace(KILLED, start=1.0, end=RECORD.start - FELT_S - 0.1),
        replace(KILLED, kind="certificates changed"),
    ],
)
def test_a_fault_that_explains_nothing(fault: Fault) -> None:
    """One elsewhere, before, after, or of a kind that clients must not feel, leaves the error wrong."""
    assert felt(RECORD, fault) == "wrong"


@pytest.mark.parametrize("outcome", ["InternalError", "InvalidArgument", "NotServed", "TypeError", "wrong"])
@pytest.mark.parametrize("kind", ALLOWED)
def test_what_nothing_excuses(outcome: str, kind: str) -> None:
    """A wrong byte, INTERNAL, INVALID_ARGUMENT for a valid request: wrong under whatever fault."""
    fault = Fault(kind, "", 0.0, 20.0)

    assert felt(replace(RECORD, outcome=outcome), fault) == "wrong"
    assert felt(replace(RECORD, outcome=outcome, ours="cancel"), fault) == "wrong"


def test_a_hung_operation() -> None:
    """Hung is hung, under whatever fault."""
    assert felt(replace(RECORD, outcome="hung"), KILLED) == "hung"


def test_a_full_server() -> None:
    """RESOURCE_EXHAUSTED is right where it says when to come back; of the socket for shared memory, where that is
    demanded, for else there are other ways."""
    full = replace(RECORD, outcome="Overloaded", retry=True)
    no_region = replace(full, way="shared_memory", reason="SHARED_MEMORY_FULL")

    assert judged(full, []) == judged(no_region, []) == "excused"
    assert judged(replace(full, retry=False), []) == judged(replace(no_region, retry=False), []) == "wrong"
    assert judged(replace(no_region, way="auto"), []) == "wrong"


@pytest.mark.parametrize(
    "ours, outcome", [("deadline", "DeadlineExceeded"), ("cancel", "cancelled"), ("close", "Unavailable")]
)
def test_ends_of_our_own(ours: str, outcome: str) -> None:
    """A client that ends its call itself gets what it asked for; nobody else gets that."""
    record = replace(RECORD, outcome=outcome)

    assert judged(replace(record, ours=ours), []) == "excused"
    assert judged(record, []) == "wrong"
