"""Docstrings as Markdown: what they say of each argument and field as a list, their examples as code.

They are written for a terminal: `name: meaning` in place of a sentence, `>>>` before code.
"""

from __future__ import annotations

import re

# Sentences begin with a capital, so that a word in small letters before a colon is a name.
NAMES = re.compile(r"(?:\A\s*|(?<=\.)\s+)(?P<names>[a-z]\w*(?:, [a-z]\w*)*): (?=\S)")
AFTER = re.compile(r"(\.\n)(?=[A-Z])")
PROMPTS = re.compile(r"^(?:>>>|\.\.\.) .*(?:\n(?:>>>|\.\.\.) .*)*$", re.MULTILINE)


def markdown(text: str) -> str:
    """The docstring's text as Markdown; one that has neither names nor examples stays as it is."""
    parts = PROMPTS.split(text)
    codes = [re.sub(r"^(?:>>>|\.\.\.) ", "", code, flags=re.MULTILINE) for code in PROMPTS.findall(text)]
    shown = [_listed(parts[0])]
    for code, part in zip(codes, parts[1:], strict=True):
        shown += [f"```python\n{code}\n```", _listed(part)]
    return "\n\n".join(one.strip("\n") for one in shown if one.strip())


def _listed(text: str) -> str:
    """A paragraph's names as items of a list."""
    return "\n\n".join(_items(paragraph.strip("\n")) for paragraph in re.split(r"\n\s*\n", text))


def _items(paragraph: str) -> str:
    head, *rest = NAMES.split(paragraph)
    shown = [head.strip()] if head.strip() else []
    for names, meaning in zip(rest[::2], rest[1::2], strict=True):
        # A line that begins a sentence after another's end belongs to no name.
        of_it, end, after = AFTER.split(meaning, maxsplit=1) if AFTER.search(meaning) else (meaning, "", "")
        item = "\n  ".join(line.strip() for line in (of_it + end).strip().split("\n"))
        shown += [f"- `{names}`: {item}", after.strip()] if after else [f"- `{names}`: {item}"]
    return "\n\n".join(shown)
