"""`lossd errors [REASON]`: what a refusal means, and what to do about it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from lossd.command_line.parser import CommandParser
from lossd.reasons.table import Reason, known_reasons, reason_sections

_DESCRIPTION = """\
Explains the reason of an error (`Error.reason`, in ErrorInfo on the wire):
what it means, what to do, and the status it comes with. Without one it lists
all there are.
"""


def errors_parser() -> CommandParser:
    parser = CommandParser(prog="lossd errors", usage="lossd errors [REASON]", description=_DESCRIPTION)
    parser.add_argument("reason", metavar="REASON", nargs="?", help="such as CLASS_OUT_OF_RANGE")
    return parser


def explain(arguments: Sequence[str]) -> int:
    """The command; its exit status."""
    name = errors_parser().parse_args(arguments).reason
    if name is None:
        print(*_all(), sep="\n")
        return 0
    reason = known_reasons().get(name.upper())
    if reason is None:
        near = get_close_matches(name.upper(), known_reasons(), n=1)
        print(
            f"lossd errors: there is no reason {name}",
            *(f"did you mean {one}?" for one in near),
            sep="; ",
            file=sys.stderr,
        )
        return 1
    print(*_told(reason), sep="\n")
    return 0


def _all() -> Iterator[str]:
    for section in reason_sections():
        yield f"{section.title}:"
        yield from (f"  {reason.name:<27}{reason.means}" for reason in section.reasons)


def _told(reason: Reason) -> Iterator[str]:
    yield f"{reason.name}: {reason.means}"
    yield f"What to do: {reason.help}"
    helps = "helps" if reason.retry else "does not help"
    yield f"Status {reason.code.name}; in Python lossd.{reason.raises.__name__}. Repeating the call {helps}."
    if reason.metadata:
        yield f"Metadata: {', '.join(reason.metadata)}"
