"""Load balancing: which connection takes the next call, and when another is opened. Pure.

Where several processes serve an address, the system deals them connections, not calls: one connection keeps one
process busy, however many calls it carries.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol, TypeVar

# Connections that are opened in vain, for each process: which one takes a connection is left to the system's hashing.
TRIES_EACH = 8
# Several servers are asked so often each how many processes they have, and one that is not there in so many rounds is
# left out.
ASKED_EACH, MOST_ROUNDS = 4, 8
# Seconds to learn about the server beside the calls.
LEARN_S = 10.0


class Carrier(Protocol):
    """in_flight: the calls that a connection carries."""

    in_flight: int


CarrierT = TypeVar("CarrierT", bound=Carrier)


def least_busy(carriers: Sequence[CarrierT], failed: CarrierT | None = None) -> CarrierT:
    """The one with the fewest calls; not the one that just failed, where there is another."""
    if len(carriers) == 1:
        return carriers[0]
    return min((one for one in carriers if one is not failed), key=lambda one: one.in_flight)


def wants_another(connections: int, in_flight: int, workers: int, tries: int) -> bool:
    """Whether a further connection is worth opening.

    in_flight: calls at once. workers: processes behind the address. tries: connections opened so far beside the first.
    """
    return connections < min(in_flight, workers) and tries < TRIES_EACH * workers


def is_new(instance_id: str, known: Collection[str]) -> bool:
    """Whether a connection reached a process that no other one reaches. "": the server does not say who it is."""
    return bool(instance_id) and instance_id not in known
