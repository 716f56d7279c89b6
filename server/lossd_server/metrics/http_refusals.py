"""HTTP refusals: what the HTTP port refuses by itself, counted behind the workers' slots. Of the port's thread."""

from __future__ import annotations

from lossd_server.metrics import layout
from lossd_server.metrics.memory import Words, behind_slots
from lossd_server.metrics.named_words import NamedWords


class HttpRefusals:
    """words: of all workers, as `words_of` gives them."""

    def __init__(self, words: Words) -> None:
        self._words = behind_slots(words)
        self._reasons = NamedWords(self._words, layout.HTTP_NAMES)

    def count(self, reason: str) -> None:
        """A request that ends with `reason`; "" where it has none, for it was no HTTP, or one connection too many."""
        self._words[layout.HTTP_REFUSED + (self._reasons.place(reason) if reason else 0)] += 1
