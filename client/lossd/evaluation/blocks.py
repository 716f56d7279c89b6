"""How much of the input goes into one message."""

from __future__ import annotations

from collections.abc import Iterator

from lossd.command_error import CommandError
from lossd.evaluation.question import Question

# Of a block, however much the server takes: progress comes in steps of it, and memory holds a few of it.
MOST_BYTES = 16 << 20
# Shapes, dtypes and options of a message: far less than this.
_HEADERS_BYTES = 8192


def ranges(question: Question, max_message_bytes: int) -> Iterator[tuple[int, int]]:
    """[start, stop) of each block of items, in order. One range where the input cannot be parted.

    max_message_bytes: what the server takes; 0 where it names no limit.
    """
    sources = question.sources
    items = question.input.items
    most = min(max_message_bytes or MOST_BYTES, MOST_BYTES)
    limit = max_message_bytes or MOST_BYTES
    whole_bytes = _HEADERS_BYTES + sum(one.nbytes for role, one in sources.items() if not question.sliced(role))
    item_bytes = sum(one.item_bytes for role, one in sources.items() if question.sliced(role))
    if whole_bytes + item_bytes > limit:
        what = "one row" if item_bytes else "the input is one row, which"
        raise CommandError(
            f"{question.input.place.text}: {what} needs a message of {whole_bytes + item_bytes} bytes, the server "
            f"takes {limit}: raise its option max_message_bytes"
        )
    if not item_bytes or not items:
        return iter([(0, items)])
    step = max(1, (most - whole_bytes) // item_bytes)
    return ((start, min(start + step, items)) for start in range(0, items, step))
