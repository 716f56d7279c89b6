"""Named words: counts by labels that only their writer knows, beside the names, so that others can read both."""

from __future__ import annotations

from lossd_server.metrics import layout
from lossd_server.metrics.layout import NAME_BYTES, NAME_WORDS
from lossd_server.metrics.memory import Words, named


class NamedWords:
    """Places of names that come up while a worker runs: the first of them have their own, all others share one."""

    def __init__(self, words: Words, start: int) -> None:
        self._words = words
        self._bytes = words.cast("B")
        self._start = start
        self._places = {name: place for place, name in named(words, start).items() if place}

    def place(self, name: str) -> int:
        found = self._places.get(name)
        return self._add(name) if found is None else found

    def _add(self, name: str) -> int:
        place = len(self._places) + 1
        if place >= layout.MOST_NAMES:
            return 0
        raw = name.encode("utf-8", "replace")[:NAME_BYTES]
        at = self._start + place * NAME_WORDS
        self._bytes[8 * at + 8 : 8 * at + 8 + len(raw)] = raw
        self._words[at] = len(raw)
        self._places[name] = place
        return place
