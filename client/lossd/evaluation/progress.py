"""The progress bar of a long evaluation: by rich, where stderr is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lossd.extras import have


@contextmanager
def progress(items: int) -> Iterator[Callable[[int], None]]:
    """Yields a function to call with the number of items that were finished since its last call."""
    library = have("rich.progress") if sys.stderr.isatty() else None
    if library is None:
        yield lambda done: None
        return
    from rich.console import Console

    parts = [library.BarColumn(), library.MofNCompleteColumn(), library.TimeRemainingColumn()]
    with library.Progress(*parts, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=items)
        yield lambda done: bar.advance(task, done)
