"""Burst: planned requests that came together, answered together by compiled code."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic_ns
from typing import Any

import numpy as np

from lossd_server.backends import Backend, PreparedRoom
from lossd_server.engine.batch_counts import BatchCounts
from lossd_server.fast_path.passage import ROOM, STATE, enter, leave
from lossd_server.fast_path.plan import ANSWERS_BYTES, WORK_BYTES, Plan
from lossd_server.tensors.array import address_of

# Requests that are computed by one launch.
MOST = 64
BYTES_HEADER = bytes.__basicsize__ - 1  # of CPython, which numba needs: the bytes lie behind it, and then a zero

# A plan, and the address of the request's first byte.
Planned = tuple[Plan, int]


def address_of_bytes(body: bytes) -> int:
    """Of its first byte; it has to stay while that is used."""
    return id(body) + BYTES_HEADER


class Burst:
    """Belongs to one thread. counts: of its launches and answers; None: nobody counts."""

    def __init__(self, backend: Backend, counts: BatchCounts | None = None) -> None:
        self._room = backend.room(MOST)
        self._asked = np.zeros(2 * MOST, np.int64)
        self._places = np.zeros(2 * MOST, np.int64)
        self._answers = bytearray(ANSWERS_BYTES)
        self._work = np.zeros(WORK_BYTES // 8)
        self._rooms = rooms = np.zeros(1, ROOM)  # kept, as are those above: compiled code has their addresses
        self._states = np.zeros(MOST, STATE)
        if self._room is not None:
            rooms["records"], rooms["pieces"] = self._room.records, self._room.pieces
        rooms["asked"], rooms["places"] = address_of(self._asked), address_of(self._places)
        rooms["states"] = address_of(self._states)
        rooms["work"], rooms["work_bytes"] = address_of(self._work), WORK_BYTES
        rooms["answers"], rooms["answers_bytes"] = address_of(np.frombuffer(self._answers, np.uint8)), ANSWERS_BYTES
        self._counts = None if counts is None else counts.row  # compiled code has its address
        rooms["counts"] = 0 if self._counts is None else address_of(self._counts)
        # The same as objects that Python reads and writes the fastest.
        self._asked_words, self._places_words = self._asked.data, self._places.data
        self._answer_bytes = memoryview(self._answers)
        self._room_at = address_of(rooms)
        self._done = rooms.view(np.int64)[-2:].data  # its count and its rows

    def answer(self, planned: Sequence[Planned]) -> list[bytes | None]:
        """The responses, in order; None for what is not plain, which `evaluate` has to say."""
        found: list[bytes | None] = [None] * len(planned)
        room = self._room
        if room is None:
            return found
        if len(planned) == 1:
            self._launch(room, planned, [0], found)
            return found
        groups: dict[Any, list[int]] = {}
        for place, (plan, _) in enumerate(planned):
            groups.setdefault(plan.group, []).append(place)
        for places in groups.values():
            for first in range(0, len(places), MOST):
                self._launch(room, planned, places[first : first + MOST], found)
        return found

    def _launch(
        self, room: PreparedRoom, planned: Sequence[Planned], places: list[int], found: list[bytes | None]
    ) -> None:
        """Answers those at `places`, which have one kernel: again for what there was no memory for."""
        words = self._asked_words
        for i, place in enumerate(places):
            plan, words[2 * i + 1] = planned[place]
            words[2 * i] = plan.address
        start_ns = monotonic_ns()
        plain = enter(self._room_at, len(places))
        count, _ = self._done
        if plain:
            prepared = planned[places[0]][0].prepared
            room.run(prepared.kernel, prepared.zero, plain)
            leave(self._room_at, plain, monotonic_ns() - start_ns)
            answers, said = self._answer_bytes, self._places_words
            for i in range(count):
                size = said[2 * i + 1]
                if size:
                    begin = said[2 * i]
                    found[places[i]] = answers[begin : begin + size].tobytes()
        if count < len(places):
            self._launch(room, planned, places[count:], found)
