"""Region shares: how many regions each process of a client may have, and all of them. Pure but for the system's limit.

A region costs a mapping and a descriptor, of which connections need some too: without a bound 4 MB of regions used up
all that a process may have. A client's process has one share, however many connections it opens.
"""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Hashable

from lossd.shared_memory import socket_protocol
from lossd_server.admission.fair_share import within
from lossd_server.shared_memory.mapped_region import NotTaken

MAX_REGIONS = 256  # of one process
MOST_IN_ALL = 4 * MAX_REGIONS
# Of the descriptors that this process may have.
DESCRIPTOR_PART = 4


class RegionShares:
    """Counts the regions that there are. most: of all processes together."""

    def __init__(self, most: int | None = None) -> None:
        self._most = regions_in_all() if most is None else most
        self._regions: Counter[Hashable] = Counter()

    def require(self, process: Hashable) -> None:
        """Raises NotTaken where the process may have no further region."""
        own, taken, most = self._regions[process], self._regions.total(), self._most
        if own >= MAX_REGIONS or taken >= most or (own and not within(own, taken - own, most)):
            raise NotTaken(
                socket_protocol.FULL,
                f"no more regions are taken: there are {taken}, of at most {most}, {own} of them of this process, which"
                f" may have {MAX_REGIONS}, and three quarters of what others leave",
            )

    def add(self, process: Hashable) -> None:
        self._regions[process] += 1

    def remove(self, process: Hashable) -> None:
        self._regions[process] -= 1
        if not self._regions[process]:
            del self._regions[process]


def regions_in_all() -> int:
    """As many as leave most of the descriptors to connections."""
    return min(MOST_IN_ALL, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // DESCRIPTOR_PART)
