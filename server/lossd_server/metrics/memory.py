"""Memory of metrics: one slot for each worker, which writes it alone; everyone may read all of them.

A word is written in one piece, so that a reader sees a count before or after, and nothing between.
"""

from __future__ import annotations

from array import array
from multiprocessing.sharedctypes import RawArray
from typing import Any, TypeAlias

from lossd_server.metrics import layout
from lossd_server.metrics.layout import BEAT, GAUGES_END, RESTARTS, SHARED_WORDS, SLOT_WORDS

Words: TypeAlias = "memoryview[int]"


def shared(workers: int) -> Any:
    """Memory of `workers` slots that child processes can be given, for `words_of`."""
    return RawArray("q", workers * SLOT_WORDS + SHARED_WORDS)


def words_of(memory: Any = None) -> Words:
    """The words of what `shared` made; of memory of this process alone for None."""
    if memory is None:
        memory = array("q", bytes(8 * (SLOT_WORDS + SHARED_WORDS)))
    return memoryview(memory).cast("B").cast("q")


def workers_of(words: Words) -> int:
    """How many slots there are."""
    return len(words) // SLOT_WORDS


def beat_of(words: Words, index: int) -> int:
    """When the worker last told of itself: what does not change belongs to one that stands still."""
    return words[index * SLOT_WORDS + BEAT]


def clear_gauges(words: Words, index: int) -> None:
    """What a worker held is no more: it has ended. Its counts stay, and its successor counts on from them."""
    start = index * SLOT_WORDS
    for position in range(start + BEAT + 1, start + GAUGES_END):
        words[position] = 0


def behind_slots(words: Words) -> Words:
    """What belongs to no worker."""
    return words[len(words) - SHARED_WORDS :]


def count_restart(words: Words) -> None:
    """A worker is started in the place of one that ended."""
    behind_slots(words)[RESTARTS] += 1


def restarts_of(words: Words) -> int:
    """How often that was."""
    return behind_slots(words)[RESTARTS]


def http_refused_of(words: Words) -> dict[str, int]:
    """What the HTTP port has refused by itself, by reason."""
    own = behind_slots(words)
    found = {name: own[layout.HTTP_REFUSED + place] for place, name in named(own, layout.HTTP_NAMES).items()}
    return {name: refused for name, refused in found.items() if refused}


def totals_of(words: Words) -> list[int]:
    """Each word of a slot, added up over all workers. Those of names mean nothing."""
    return [sum(of_each) for of_each in zip(*_slots(words), strict=True)]


def total_of(words: Words, first: int, count: int = 1) -> int:
    """The sum of `count` words of every slot, from its word `first` on."""
    return sum(
        sum(words[start + first : start + first + count]) for start in range(0, len(words) - SHARED_WORDS, SLOT_WORDS)
    )


def of_each(words: Words, position: int) -> list[int]:
    """A word of every slot."""
    return [words[start + position] for start in range(0, len(words) - SHARED_WORDS, SLOT_WORDS)]


def by_name(words: Words, names: int, *values: int) -> dict[str, list[int]]:
    """Values of labels that workers have named, added up over all workers.

    names: where the names are in a slot; values: where the words are that count for them.
    """
    found: dict[str, list[int]] = {}
    for slot in _slots(words):
        for place, name in named(slot, names).items():
            sums = found.setdefault(name, [0] * len(values))
            for i, first in enumerate(values):
                sums[i] += slot[first + place]
    return found


def named(slot: Words, names: int) -> dict[int, str]:
    """The names that a slot has, by place."""
    found = {0: layout.OTHER}
    for place in range(1, layout.MOST_NAMES):
        at = names + place * layout.NAME_WORDS
        size = slot[at]
        if size:
            raw = bytes(slot[at + 1 : at + layout.NAME_WORDS].cast("B"))[:size]
            found[place] = raw.decode("utf-8", "replace")
    return found


def _slots(words: Words) -> list[Words]:
    return [words[start : start + SLOT_WORDS] for start in range(0, len(words) - SHARED_WORDS, SLOT_WORDS)]
