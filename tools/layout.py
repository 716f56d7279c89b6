"""Fails where a folder of ours holds too many files, or a public name means two things.

A name may stand twice in trees that mirror each other: the two backends' kernels, the two clients, both sides' errors.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from unasync import TWINS

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (ROOT / "client/lossd", ROOT / "server/lossd_server")
GENERATED = ROOT / "client/lossd/v1"
MOST_FILES = 20
# Pairs of trees in which one name means one thing.
MIRRORS = (
    ("server/lossd_server/backends/numba/", "server/lossd_server/backends/triton/"),
    *TWINS.items(),
    ("client/lossd/methods.py", "client/lossd/aio_methods.py"),
    ("client/lossd/concurrency/tasks.py", "client/lossd/concurrency/threads.py"),
    ("client/lossd/connection/aio_channel.py", "client/lossd/connection/channel.py"),
    ("client/lossd/connection/aio_library.py", "client/lossd/connection/library.py"),
    ("client/lossd/streaming/aio_pipe.py", "client/lossd/streaming/pipe.py"),
    ("client/lossd/errors.py", "server/lossd_server/errors.py"),
)
# Functions that every file of a kind has.
PROTOCOLS = {
    "check": "a loss's fields to its Job",
    "main": "a command's arguments to its exit status",
    "warm_up": "compiles what its file calls",
}


def sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from (path for path in sorted(package.rglob("*.py")) if not path.is_relative_to(GENERATED))


def public(path: Path) -> Iterator[str]:
    """Names of the classes and functions that a file defines for others."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node.name


def crowded() -> Iterator[str]:
    for package in PACKAGES:
        for folder in [package, *(one for one in package.rglob("*") if one.is_dir() and one.name != "__pycache__")]:
            count = sum(1 for one in folder.iterdir() if one.is_file())
            if count > MOST_FILES and not folder.is_relative_to(GENERATED):
                yield f"{folder.relative_to(ROOT)}: {count} files, more than {MOST_FILES}"


def ambiguous() -> Iterator[str]:
    homes: dict[str, list[str]] = defaultdict(list)
    for path in sources():
        for name in public(path):
            homes[name].append(path.relative_to(ROOT).as_posix())
    for name, places in sorted(homes.items()):
        if len(places) > 1 and name not in PROTOCOLS and not _mirrored(places):
            yield f"{name} is defined in {', '.join(places)}: a name means one thing"


def _mirrored(places: list[str]) -> bool:
    """Whether the places are one in each of two trees that mirror each other."""
    return any(
        len(places) == 2 and all(any(place.startswith(tree) for place in places) for tree in mirror)
        for mirror in MIRRORS
    )


def main() -> int:
    found = [*crowded(), *ambiguous()]
    print(*found, sep="\n", file=sys.stderr, end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
