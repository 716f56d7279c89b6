"""The command-line parser that every `lossd` command uses, and the numbers that flags take."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from lossd.errors import shown_value
from lossd.request.option_values import unknown_value

# Not flags: negative numbers, and a column of standard input, -:label.
_NEGATIVE = re.compile(r"-(\.?\d.*|inf|infinity|nan|:.*)$", re.IGNORECASE)
# 11 days. gRPC adds a timeout to the time of day in nanoseconds, and from some size on calls end at once.
_MOST_SECONDS = 1e6
_INT64 = range(-(2**63), 2**63)


class CommandParser(argparse.ArgumentParser):
    """A mistake is answered with the usage in one line, where help is, and the mistake. Exit status 2.

    usage: the line in short; argparse's own lists every flag.
    """

    def __init__(self, *, formatter_class: Any = argparse.RawDescriptionHelpFormatter, **given: Any) -> None:
        super().__init__(formatter_class=formatter_class, **given)
        # argparse takes -1 for a number and -1e-3 and -inf for options; see its _parse_optional.
        self._negative_number_matcher = _NEGATIVE

    def _print_message(self, message: str, file: Any = None) -> None:
        """argparse's own is silent about a stream that cannot be written, in some versions of Python."""
        if message:
            (sys.stderr if file is None else file).write(message)

    def error(self, message: str) -> NoReturn:
        help_line = f"       {self.prog} --help explains every option\n"
        self.exit(2, f"{self.format_usage()}{help_line}{self.prog}: error: {message}\n")


def one_of(noun: str, names: tuple[str, ...]) -> Callable[[str], str]:
    """Reads a name; hyphens are taken for underscores."""

    def read(text: str) -> str:
        name = text.replace("-", "_")
        if name not in names:
            raise argparse.ArgumentTypeError(str(unknown_value(noun, text, names)))
        return name

    return read


def number(text: str) -> float:
    """Any number, infinity and NaN included."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{shown_value(text)} is not a number") from None


def positive(text: str) -> float:
    """A finite number above 0."""
    value = number(text)
    if not value > 0 or math.isinf(value):
        raise argparse.ArgumentTypeError(f"{_short(text)} must be above 0 and finite")
    return value


def seconds(text: str) -> float:
    """A time limit: above 0, and not so large that no clock can count it."""
    value = positive(text)
    if value > _MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"{_short(text)} must be at most {_MOST_SECONDS:,.0f} seconds")
    return value


def fraction(text: str) -> float:
    """A number from 0 to 1."""
    value = number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{_short(text)} must be from 0 to 1")
    return value


def whole(text: str) -> int:
    """Any whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{shown_value(text)} is not a whole number") from None


def int64(text: str) -> int:
    """A whole number that a message can hold."""
    value = whole(text)
    if value not in _INT64:
        raise argparse.ArgumentTypeError(f"{_short(text)} must fit 64 bits")
    return value


def natural(text: str) -> int:
    """A whole number from 0 on."""
    value = whole(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{_short(text)} must not be negative")
    return value


def counted(most: int) -> Callable[[str], int]:
    """Reads a whole number from 1 to `most`."""

    def read(text: str) -> int:
        value = whole(text)
        if not 1 <= value <= most:
            raise argparse.ArgumentTypeError(f"{_short(text)} must be from 1 to {most:,}")
        return value

    return read


def listed(one: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    """Reads one or several of a kind, with commas between them."""
    return lambda text: tuple(one(part) for part in text.split(","))


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:79]}…"
