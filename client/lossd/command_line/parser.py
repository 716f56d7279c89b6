"""The command-line parser that every `lossd` command uses, and the numbers that flags take."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any, NoReturn

from lossd.request.option_values import unknown_value


class CommandParser(argparse.ArgumentParser):
    """A mistake is answered with the usage in one line, where help is, and the mistake. Exit status 2.

    usage: the line in short; argparse's own lists every flag.
    """

    def __init__(self, *, formatter_class: Any = argparse.RawDescriptionHelpFormatter, **given: Any) -> None:
        super().__init__(formatter_class=formatter_class, **given)

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
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def positive(text: str) -> float:
    """A finite number above 0."""
    value = number(text)
    if not value > 0 or math.isinf(value):
        raise argparse.ArgumentTypeError(f"{text} must be above 0 and finite")
    return value


def whole(text: str) -> int:
    """Any whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def natural(text: str) -> int:
    """A whole number from 0 on."""
    value = whole(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} must not be negative")
    return value


def counted(text: str) -> int:
    """A whole number from 1 on."""
    value = whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} must be 1 or more")
    return value


def listed(one: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    """Reads one or several of a kind, with commas between them."""
    return lambda text: tuple(one(part) for part in text.split(","))
