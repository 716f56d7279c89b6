"""Writes docs/errors.md from the table of reasons; `--check` says whether the page is what would be written."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "client"))

from lossd.reasons.table import Reason, reason_sections

PAGE = Path(__file__).resolve().parent.parent / "docs/errors.md"
HEAD = """\
# Errors

<!-- written by tools/errors_page.py (make pages) from client/lossd/reasons -->

An error says what is wrong in one sentence, and the same for programs: a `reason`, the request's `field` at fault, and
`metadata` with every variable of the sentence. On the wire these are `google.rpc.ErrorInfo` (domain `lossd`) and
`BadRequest` in the status's details; in Python they are attributes of the exception:

| status | exception of `lossd` | what it asks for |
|---|---|---|
| INVALID_ARGUMENT, NOT_FOUND | `InvalidArgument`, a `ValueError` | fix the request |
| RESOURCE_EXHAUSTED without RetryInfo | `TooLarge`, an `InvalidArgument` | send less |
| RESOURCE_EXHAUSTED with RetryInfo | `Overloaded` | come back after `retry_after_s` |
| UNAVAILABLE | `Unavailable` | repeat, here or elsewhere: losses change nothing |
| DEADLINE_EXCEEDED | `DeadlineExceeded` | allow more time |
| UNAUTHENTICATED | `Unauthenticated` | show who you are |
| UNIMPLEMENTED | `NotServed` | do without, or ask another server |
| INTERNAL | `InternalError` | report it, with its `request_id` |

lossd's clients repeat `Overloaded` and `Unavailable` by themselves until the call's `timeout`. `lossd errors REASON`
prints a row of this page. A status that no lossd server has explained has its code's name as `reason`, and `on_the_way`
is true: a proxy, a balancer or [gRPC's own library](running.md#errors-without-details) has made it.
"""


def page() -> str:
    """The whole text."""
    return HEAD + "".join(f"{line}\n" for line in _sections())


def _sections() -> Iterator[str]:
    for section in reason_sections():
        yield from ("", f"## {section.title}", "", section.about, "")
        yield from ("| reason | status | what it means | what to do | metadata |", "|---|---|---|---|---|")
        yield from map(_row, section.reasons)


def _row(reason: Reason) -> str:
    status = f"{reason.code.name}{', repeat' if reason.retry else ''}"
    metadata = ", ".join(f"`{key}`" for key in reason.metadata)
    return f"| `{reason.name}` | {status} | {reason.means} | {reason.help} | {metadata} |"


def main() -> int:
    parser = argparse.ArgumentParser(description="Write docs/errors.md from the table of reasons.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the page is stale")
    if not parser.parse_args().check:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        print("docs/errors.md is out of date; run: make pages", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
