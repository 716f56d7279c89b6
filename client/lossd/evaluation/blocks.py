"""Block sizes: how many rows of the input go into one message."""

from __future__ import annotations

from collections.abc import Iterator

from lossd.command_error import CommandError
from lossd.evaluation.question import Question

# The largest block, even where the server takes more: progress is reported per block, and memory holds a few blocks.
MOST_BYTES = 16 << 20
# Room in a message for shapes, dtypes and options, which need far less.
_HEADERS_BYTES = 8192


def ranges(question: Question, max_message_bytes: int) -> Iterator[tuple[int, int]]:
    """[start, stop) of each block of items, in order. One range where the input cannot be divided.

    max_message_bytes: the server's limit; 0 if it has none.
    """
    sources = question.sources
    items = question.input.items
    most = min(max_message_bytes or MOST_BYTES, MOST_BYTES)
    limit = max_message_bytes or MOST_BYTES
    whole_bytes = _HEADERS_BYTES + sum(one.nbytes for role, one in sources.items() if not question.sliced(role))
    item_bytes = sum(one.item_bytes for role, one in sources.items() if question.sliced(role))
    if whole_bytes + item_bytes > limit:
        what = "one row" if item_bytes else "the input cannot be divided and"
        raise CommandError(
            f"{question.input.place.text}: {what} needs a message of {whole_bytes + item_bytes:,} bytes, but the "
            f"server accepts at most {limit:,}: start it with a larger --max-message-bytes"
        )
    if not item_bytes or not items:
        return iter([(0, items)])
    step = max(1, (most - whole_bytes) // item_bytes)
    return ((start, min(start + step, items)) for start in range(0, items, step))
