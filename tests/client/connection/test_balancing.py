"""Which connection takes a call, and when another is opened."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from lossd.connection.balancing import TRIES_EACH, is_new, least_busy, wants_another


@dataclass
class Carrier:
    in_flight: int


def test_the_least_busy_takes_the_call() -> None:
    """The first of those with the fewest calls."""
    carriers = [Carrier(3), Carrier(1), Carrier(1)]

    assert least_busy(carriers) is carriers[1]


def test_what_just_failed_is_passed_over() -> None:
    """Where there is another: a connection that fails fast would look idle for ever."""
    idle, busy = Carrier(0), Carrier(9)

    assert least_busy([idle, busy], idle) is busy
    assert least_busy([idle], idle) is idle


@pytest.mark.parametrize(
    ("connections", "in_flight", "workers", "wanted"),
    [
        (1, 1, 4, False),
        (1, 2, 4, True),
        (2, 2, 4, False),
        (3, 128, 4, True),
        (4, 128, 4, False),
        (1, 128, 1, False),
        (1, 128, 0, False),
    ],
)
def test_as_many_connections_as_calls_and_processes(
    connections: int, in_flight: int, workers: int, wanted: bool
) -> None:
    """One caller at a time has one; nobody has more than there are processes."""
    assert wants_another(connections, in_flight, workers, tries=0) is wanted


def test_tries_are_bounded() -> None:
    """Chance may give every connection to the same process."""
    assert wants_another(1, 9, 2, tries=2 * TRIES_EACH - 1)
    assert not wants_another(1, 9, 2, tries=2 * TRIES_EACH)


def test_a_connection_to_a_process_that_is_reached_already_is_no_use() -> None:
    """Nor one to a server that does not say who it is."""
    assert is_new("b", {"a"})
    assert not is_new("a", {"a"})
    assert not is_new("", {"a"})
