"""Option values as the wire has them, or InvalidArgument naming the option."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import index
from typing import Any

from lossd.errors import InvalidArgument

_INT64 = range(-(2**63), 2**63)


def number_option(name: str, value: Any) -> float:
    """`value` as a float64; ranges are the server's to check."""
    if not isinstance(value, str | bytes):
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError, RuntimeError):
            pass
    raise _refused(name, value, "is not a number", "WRONG_TYPE")


def integer_option(name: str, value: Any) -> int:
    """`value` as an int64; a float is refused even where it is whole, as Python's own indexing does."""
    try:
        whole = index(value)
    except TypeError:
        raise _refused(name, value, "is not an integer", "WRONG_TYPE") from None
    if whole not in _INT64:
        raise _refused(name, value, "does not fit 64 bits", "OPTION_OUT_OF_RANGE")
    return whole


def flag(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _refused(name, value, "is neither True nor False", "WRONG_TYPE")


def enumeration(values: Mapping[str, int], name: str, value: Any) -> int:
    """The number of the enum value that the string `value` names."""
    chosen = values.get(value) if isinstance(value, str) else None
    if chosen is None:
        raise _refused(name, value, f"is none of {', '.join(values)}", "UNKNOWN_ENUM")
    return chosen


def enumerations(values: Mapping[str, int], name: str, value: Any) -> list[int]:
    """The same of one name or of several, each once, in their order."""
    names = value if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
    return list(dict.fromkeys(enumeration(values, name, one) for one in names))


def _refused(name: str, value: Any, what: str, reason: str) -> InvalidArgument:
    shown = repr(value).splitlines()[0][:80]
    return InvalidArgument(f"{name} = {shown} {what}", field=name, reason=reason, metadata={"value": shown})
