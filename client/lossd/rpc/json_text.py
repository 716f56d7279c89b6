"""JSON of a stranger: read only where it is not nested deeply.

Python's reader goes as deep as the interpreter lets it, and what is collected meanwhile fails in its finalizer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np

DEEPEST = 32
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_OTHERS = re.compile(r"[^\[\]{}]++")
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")


def read_json(
    body: bytes,
    object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None,
    parse_constant: Callable[[str], Any] | None = None,
) -> Any:
    """As `json.loads`, of UTF-8. ValueError where it is no JSON, or lists and objects nest deeper than DEEPEST."""
    text = body.decode()
    if text.count("[") + text.count("{") > DEEPEST and _depth(text) > DEEPEST:
        raise ValueError("it is nested too deeply")
    return json.loads(text, object_pairs_hook=object_pairs_hook, parse_constant=parse_constant)


def _depth(text: str) -> int:
    """Of lists and objects that are open at a time: brackets in strings are none."""
    brackets = _OTHERS.sub("", _STRING.sub("", text)).encode()
    steps = np.frombuffer(brackets.translate(_STEPS), np.int8)
    return int(np.cumsum(steps, dtype=np.int64).max(initial=0))
