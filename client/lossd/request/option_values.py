"""Option values as the wire has them, or InvalidArgument naming the option."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from operator import index
from sys import getsizeof
from typing import Any

from lossd.errors import InvalidArgument, shown_value

_INT64 = range(-(2**63), 2**63)
# Of values that mean the same whenever their types are the same and they are equal; and how large those and how many
# names are remembered: no option that is right has more.
_PLAIN = frozenset({bool, float, int, str, type(None)})
_MOST_VALUE_BYTES, _MOST_NAMES = 128, 8


def is_plain(value: Any) -> bool:
    """Whether what is asked with the value may be remembered by it: never what its owner could change."""
    kind = type(value)
    if kind is tuple:
        return len(value) <= _MOST_NAMES and all(type(one) is str and is_plain(one) for one in value)
    return kind in _PLAIN and getsizeof(value) <= _MOST_VALUE_BYTES


def number_option(name: str, value: Any) -> float:
    """`value` as a float64; ranges are the server's to check."""
    if not isinstance(value, str | bytes):
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError, RuntimeError):
            pass
    raise _refused(name, value, f"{name} must be a number, not", "WRONG_TYPE")


def integer_option(name: str, value: Any) -> int:
    """`value` as an int64; a float is refused even where it is whole, as Python's own indexing does."""
    try:
        whole = index(value)
    except TypeError:
        raise _refused(name, value, f"{name} must be an integer, not", "WRONG_TYPE") from None
    if whole not in _INT64:
        raise _refused(name, value, f"{name} must fit 64 bits, not be", "OPTION_OUT_OF_RANGE")
    return whole


def flag(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _refused(name, value, f"{name} must be True or False, not", "WRONG_TYPE")


def enumeration(
    values: Mapping[str, int],
    name: str,
    value: Any,
    also: tuple[object, ...] = (),
    elsewhere: Collection[str] = (),
) -> int:
    """The number of the enum value that the string `value` names. also: what else the option may be.

    elsewhere: values that other losses take, which are refused with the server's reason.
    """
    chosen = values.get(value) if isinstance(value, str) else None
    if chosen is None:
        reason = "OPTION_NOT_TAKEN" if isinstance(value, str) and value in elsewhere else "UNKNOWN_ENUM"
        raise unknown_value(name, value, (*also, *values), reason)
    return chosen


def enumerations(values: Mapping[str, int], name: str, value: Any, also: tuple[object, ...] = ()) -> list[int]:
    """The same of one name or of several, each once, in their order."""
    names = value if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
    return list(dict.fromkeys(enumeration(values, name, one, also) for one in names))


def unknown_value(name: str, value: object, known: Collection[object], reason: str = "UNKNOWN_ENUM") -> InvalidArgument:
    """The refusal of a value that is none of `known`: "reduction must be 'mean' or 'sum', not 'men'; did you …"."""
    shown = shown_value(value)
    return InvalidArgument(
        f"{name} must be {alternatives(known)}, not {shown}{did_you_mean(value, known)}",
        field=name,
        reason=reason,
        metadata={"value": shown, "taken": ", ".join(map(str, known))},
    )


def alternatives(known: Iterable[object]) -> str:
    """'mean', 'sum' or 'none', as Python writes them."""
    *others, last = map(repr, known)
    return f"{', '.join(others)} or {last}" if others else last


def did_you_mean(value: object, known: Iterable[object]) -> str:
    """The end of a sentence that names the string among `known` that is nearest to `value`, if any is near."""
    from difflib import get_close_matches  # only a mistake needs it

    if not isinstance(value, str):
        return ""
    near = get_close_matches(value.lower(), [one for one in known if isinstance(one, str)], n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _refused(name: str, value: Any, must: str, reason: str) -> InvalidArgument:
    """must: the sentence up to the value."""
    shown = shown_value(value)
    return InvalidArgument(f"{must} {shown}", field=name, reason=reason, metadata={"value": shown})
