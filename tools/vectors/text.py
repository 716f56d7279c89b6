"""Files of vectors as text: a line for each tensor or option, so that a person and a diff can read them."""

from __future__ import annotations

import json
from typing import Any


def text(document: dict[str, Any]) -> str:
    cases = ",\n".join(_block(case, "  ") for case in document["cases"])
    head = {name: value for name, value in document.items() if name != "cases"}
    return f'{json.dumps(head)[:-1]}, "cases": [\n{cases}\n]}}\n'


def _block(value: Any, indent: str) -> str:
    """An object whose values hold objects has a line for each of them."""
    if not isinstance(value, dict) or not any(isinstance(one, dict) for one in value.values()):
        return indent + json.dumps(value, ensure_ascii=False)
    lines = [f"{indent} {json.dumps(name)}: {_block(one, indent + ' ').lstrip()}" for name, one in value.items()]
    return indent + "{\n" + ",\n".join(lines) + "\n" + indent + "}"
