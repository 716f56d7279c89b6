"""JSON of strangers: what Python's reader reads, up to a depth that no finalizer notices."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossd.rpc.json_text import DEEPEST, read_json

TEXTS = st.text() | st.text(alphabet='[]{}"\\,: ')
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda values: st.lists(values, max_size=4) | st.dictionaries(TEXTS, values, max_size=4),
    max_leaves=60,
)


def depth(value: Any) -> int:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inside is None else 1 + max(map(depth, inside), default=0)


@given(VALUES, st.booleans(), st.integers(0, DEEPEST))
def test_as_pythons_reader(value: Any, ascii_only: bool, more: int) -> None:
    """Whatever stands in its strings."""
    for _ in range(more):
        value = [value, "]}", "[{", '"[']
    body = json.dumps(value, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    try:
        body.decode()
    except UnicodeDecodeError:
        with pytest.raises(ValueError, match="decode"):
            read_json(body)
        return
    if depth(value) > DEEPEST:
        with pytest.raises(ValueError, match="nested too deeply"):
            read_json(body)
    else:
        assert read_json(body) == value


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'["]",' * 100_000,
        b'["\\"]",' * 100_000,
        b'[{"]}\\\\":' * 50_000,
        b'"' + b"\\" * 100_000 + b'"' + b"[" * 100_000,
        b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1),
    ],
    ids=["lists", "objects", "brackets in strings", "escaped quotes", "escaped escapes", "after a string", "one more"],
)
def test_what_is_deep_is_refused_unread(body: bytes) -> None:
    """Even where the interpreter has no room for depth at all."""
    limit = sys.getrecursionlimit()
    depth_now = 0
    frame: Any = sys._getframe()
    while frame is not None:
        depth_now, frame = depth_now + 1, frame.f_back
    sys.setrecursionlimit(depth_now + 30)
    try:
        with pytest.raises(ValueError, match="nested too deeply"):
            read_json(body)
    finally:
        sys.setrecursionlimit(limit)


@pytest.mark.parametrize("body", [b"", b"[", b'"', b'"\\', b"\xff", b"\xef\xbb\xbf1", "[1]".encode("utf-16"), b"[1]]"])
def test_what_is_no_json_is_a_value_error(body: bytes) -> None:
    """Nothing else, and UTF-8 alone is JSON: in another encoding brackets could not be told."""
    with pytest.raises(ValueError, match=r"\S"):
        read_json(body)
