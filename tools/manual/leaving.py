"""Links of a page to files that the manual does not have: to the repository, or as plain text with the file's name."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

# Code, where brackets are no links: blocks between fences, and what stands between backticks by itself.
FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<![!\]])\[(?P<text>(?:`[^`\n]*`|[^\[\]`])+)\]\((?P<to>[^)\s:#]+)(?P<heading>#[^)\s]*)?\)")


def outside(page: str, to: str, docs: Path) -> str | None:
    """The path in the repository of what a page of `docs` links to; None where it is a file of the manual.

    page: the page's path in `docs`. A folder is no file of it.
    """
    path = posixpath.normpath(posixpath.join(docs.name, posixpath.dirname(page), to))
    target = docs.parent / path
    return None if target.is_file() and target.is_relative_to(docs) else path


def rewritten(markdown: str, page: str, docs: Path, repository: str) -> str:
    """The page's text with its links out of the manual rewritten.

    repository: the address below which files stand ("https://…/blob/main"), "" where there is none. A link to what is
    nowhere stays as it is, for the build to complain of.
    """

    def replace(link: re.Match[str]) -> str:
        path = outside(page, link["to"], docs)
        if path is None or not (docs.parent / path).exists():
            return link[0]
        if repository:
            return f"[{link['text']}]({repository}/{path}{link['heading'] or ''})"
        name = f"`{path}`"
        plain = link["text"].strip("`")
        return name if path.rstrip("/").endswith(plain.rstrip("/")) else f"{link['text']} ({name})"

    return outside_code(markdown, lambda text: LINK.sub(replace, text))


def outside_code(markdown: str, change: Callable[[str], str]) -> str:
    """The text with what stands between fences left as it is."""
    parts = FENCED.split(markdown)
    return "".join(part if i % 2 else change(part) for i, part in enumerate(parts))
