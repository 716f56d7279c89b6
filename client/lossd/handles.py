"""Handles: a number for each client of this process, for code that can hold no objects (a compiled graph)."""

from __future__ import annotations

from itertools import count
from secrets import randbits
from weakref import WeakValueDictionary

# From a random number on: a number that another process wrote down, in a graph that was stored, is nobody's here. Below
# 2**63, as graphs have integers. A forked child keeps its parent's clients, and their numbers.
_numbers = count(randbits(61) + 1)
_holders: WeakValueDictionary[int, object] = WeakValueDictionary()


def enrol(holder: object) -> int:
    """A number that finds the object for as long as somebody else holds it."""
    number = next(_numbers)
    _holders[number] = holder
    return number


def find(number: int) -> object | None:
    return _holders.get(number)
