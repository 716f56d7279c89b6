"""Fails where a file of ours has over 300 lines and no line that begins `long because` and says why."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 300
FOLDERS = (
    "client",
    "server",
    "proto",
    "languages",
    "tests",
    "examples",
    "benchmarks",
    "tools",
    "docs",
    "deploy",
    ".ci",
)
NAMES = {"Makefile", "Dockerfile", "run"}
SUFFIXES = {".py", ".proto", ".md", ".sh", ".toml", ".yml", ".yaml", ".js", ".html"}
OTHER_LANGUAGES = {".cc", ".go", ".h", ".java", ".mts", ".rb", ".ts"}
GENERATED = (ROOT / "client/lossd/v1", ROOT / "languages/go/lossdv1")
REASON = re.compile(r"^\s*(#|//|<!--) long because \w+", re.MULTILINE)


def ours() -> Iterator[Path]:
    """Every text file that people write here: those at the top, and those in the folders above."""
    for top in ROOT.iterdir():
        if top.is_file():
            yield top
        elif top.name in FOLDERS:
            yield from (path for path in top.rglob("*") if path.is_file())


def main() -> int:
    long = []
    for path in sorted(ours()):
        is_text = path.suffix in SUFFIXES | OTHER_LANGUAGES or path.name in NAMES
        if not is_text or any(path.is_relative_to(folder) for folder in GENERATED):
            continue
        text = path.read_text(encoding="utf-8")
        lines = text.count("\n")
        if lines > LIMIT and not REASON.search(text):
            long.append(f"{path.relative_to(ROOT)}: {lines} lines, more than {LIMIT}: part it, or say `long because …`")
    print(*long, sep="\n", file=sys.stderr, end="\n" if long else "")
    return 1 if long else 0


if __name__ == "__main__":
    sys.exit(main())
